"""Temperature and power of the machine, as Linux shows them in /sys: thermal zones, hwmon, Jetson.

Formats: Linux kernel documentation, "Generic Thermal Sysfs driver" (millidegrees) and "Naming and
data format standards for sysfs files" (hwmon: millidegrees, microwatts, millivolts, milliamperes).
A Jetson's INA3221 shows volts and amperes per rail, older ones milliwatts under iio.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SYS = Path("/sys")
MOST_SENSORS = 64
_MOST_CHARS = 48


@dataclass(frozen=True, slots=True)
class Reading:
    """One sensor: degrees Celsius or watts."""

    sensor: str
    value: float


def temperatures(sys: Path = SYS) -> list[Reading]:
    """Degrees Celsius per sensor; what cannot be read is left out."""
    found: dict[str, float] = {}
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        _note(found, _text(zone / "type") or zone.name, _number(zone / "temp", 1000))
    for chip, entry in _inputs(sys, "temp"):
        _note(found, f"{chip} {_label(entry)}", _number(entry, 1000))
    return _readings(found)


def powers(sys: Path = SYS) -> list[Reading]:
    """Watts per sensor or rail; what cannot be read is left out."""
    found: dict[str, float] = {}
    for chip, entry in _inputs(sys, "power"):
        _note(found, f"{chip} {_label(entry)}", _number(entry, 1e6))
    for chip, entry in _inputs(sys, "in"):
        amperes = _number(entry.with_name(entry.name.replace("in", "curr", 1)), 1000)
        volts = _number(entry, 1000)
        if volts is not None and amperes is not None:
            _note(found, f"{chip} {_label(entry)}", volts * amperes)
    for entry in sorted(sys.glob("bus/i2c/drivers/ina3221x/*/iio:device*/in_power*_input")):
        rail = _text(entry.with_name(f"rail_name_{_index(entry)}")) or f"rail{_index(entry)}"
        _note(found, f"ina3221 {rail}", _number(entry, 1000))
    return _readings(found)


class DeviceCollector(Collector):
    """The readings as metrics, taken when somebody asks for them."""

    def __init__(self, sys: Path = SYS) -> None:
        self._sys = sys

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Two families; a machine without sensors has no samples in them."""
        for name, text, readings in (
            ("temperature_celsius", "Temperature of a sensor", temperatures(self._sys)),
            ("power_watts", "Power of a sensor or supply rail", powers(self._sys)),
        ):
            family = GaugeMetricFamily(f"hola_device_{name}", text, labels=["sensor"])
            for reading in readings:
                family.add_metric([reading.sensor], reading.value)
            yield family


def _inputs(sys: Path, kind: str) -> Iterator[tuple[str, Path]]:
    """Every hwmon input of a kind, with its chip's name."""
    for chip in sorted(sys.glob("class/hwmon/hwmon*")):
        name = _text(chip / "name") or chip.name
        for entry in sorted(chip.glob(f"{kind}*_input")):
            if re.fullmatch(rf"{kind}\d+_input", entry.name):
                yield name, entry


def _label(entry: Path) -> str:
    stem = entry.name.removesuffix("_input")
    return _text(entry.with_name(f"{stem}_label")) or stem


def _index(entry: Path) -> str:
    return re.sub(r"\D", "", entry.name)


def _note(found: dict[str, float], sensor: str, value: float | None) -> None:
    """Two sensors of one name get a number: a label must name one series."""
    if value is None or len(found) >= MOST_SENSORS:
        return
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", sensor).strip("_")[:_MOST_CHARS].lower()
    known = [each for each in found if each == name or each.startswith(f"{name}.")]
    found[f"{name}.{len(known) + 1}" if known else name] = value


def _readings(found: dict[str, float]) -> list[Reading]:
    return [Reading(sensor, value) for sensor, value in found.items()]


def _text(path: Path) -> str:
    """The file's text; empty where there is none, or the driver says no."""
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path, per_unit: float) -> float | None:
    try:
        return int(_text(path)) / per_unit
    except ValueError:
        return None
