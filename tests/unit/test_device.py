"""Sensors of the machine, from a /sys as boards and servers have it; broken ones are left out."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from hola.device import MOST_SENSORS, DeviceCollector, Reading, powers, temperatures


def folder(sys: Path, path: str, **files: str) -> None:
    (sys / path).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (sys / path / name).write_text(text)


def test_thermal_zones_are_in_millidegrees(tmp_path: Path) -> None:
    folder(tmp_path, "class/thermal/thermal_zone0", type="cpu-thermal\n", temp="48312\n")
    folder(tmp_path, "class/thermal/thermal_zone1", type="GPU-therm", temp="-5000")
    assert temperatures(tmp_path) == [Reading("cpu-thermal", 48.312), Reading("gpu-therm", -5.0)]


def test_chips_of_hwmon_have_labels_or_numbers(tmp_path: Path) -> None:
    files = {"name": "coretemp", "temp1_input": "51000", "temp1_label": "Package id 0"}
    folder(tmp_path, "class/hwmon/hwmon0", **files, temp2_input="49000", temp1_crit="99000")
    assert temperatures(tmp_path) == [
        Reading("coretemp_package_id_0", 51.0),
        Reading("coretemp_temp2", 49.0),
    ]


def test_a_jetsons_rails_are_volts_times_amperes(tmp_path: Path) -> None:
    folder(
        tmp_path,
        "class/hwmon/hwmon3",
        name="ina3221",
        in1_label="VDD_IN",
        in1_input="4920",
        curr1_input="1000",
        in2_input="5000",
    )
    assert powers(tmp_path) == [Reading("ina3221_vdd_in", 4.92)]


def test_an_older_jetson_says_milliwatts(tmp_path: Path) -> None:
    where = "bus/i2c/drivers/ina3221x/1-0040/iio:device0"
    folder(tmp_path, where, rail_name_0="POM_5V_IN", in_power0_input="2412", in_power1_input="x")
    assert powers(tmp_path) == [Reading("ina3221_pom_5v_in", 2.412)]


def test_power_of_hwmon_is_in_microwatts(tmp_path: Path) -> None:
    folder(tmp_path, "class/hwmon/hwmon1", name="amdgpu", power1_input="12500000")
    assert powers(tmp_path) == [Reading("amdgpu_power1", 12.5)]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    folder(tmp_path, "class/thermal/thermal_zone0", type="a", temp="hot")
    folder(tmp_path, "class/thermal/thermal_zone1", type="b")
    folder(tmp_path, "class/thermal/thermal_zone2/temp")
    (tmp_path / "class/thermal/thermal_zone3").mkdir()
    (tmp_path / "class/thermal/thermal_zone3/temp").write_bytes(b"\xff\xfe")
    assert temperatures(tmp_path) == []
    assert temperatures(tmp_path / "nowhere") == []


def test_sensors_are_told_apart_and_bounded(tmp_path: Path) -> None:
    for number in range(MOST_SENSORS + 9):
        folder(tmp_path, f"class/thermal/thermal_zone{number:03}", type="same", temp="1000")
    found = [reading.sensor for reading in temperatures(tmp_path)]
    assert found[:3] == ["same", "same.2", "same.3"]
    assert len(found) == len(set(found)) == MOST_SENSORS


def test_they_are_read_when_somebody_asks(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(DeviceCollector(tmp_path))
    assert b"hola_device_temperature_celsius{" not in generate_latest(registry)
    folder(tmp_path, "class/thermal/thermal_zone0", type='evil" \n}', temp="20000")
    assert b'hola_device_temperature_celsius{sensor="evil"} 20.0' in generate_latest(registry)
