"""Devices a budget can be named after: what they have, and how much of it a model may take."""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A device's data sheet: memory in bytes, peak memory bandwidth in bytes per second.

    `model_share` is the part of memory that weights may take; the rest is for the system, the KV
    cache and the services. Integrated GPUs share the same memory.
    """

    name: str
    title: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    model_share: float = 0.4

    @property
    def model_bytes(self) -> int:
        """Most bytes of weights that fit beside everything else."""
        return int(self.memory_bytes * self.model_share)

    def decode_tokens_per_s(self, weight_bytes: int) -> float:
        """Upper bound of plain decoding: every weight is read once per token."""
        return self.bandwidth_bytes_per_s / max(1, weight_bytes)


def _profile(name: str, title: str, memory_gib: float, gb_per_s: float) -> DeviceProfile:
    return DeviceProfile(
        name=name,
        title=title,
        memory_bytes=int(memory_gib * _GIB),
        bandwidth_bytes_per_s=gb_per_s * 1e9,
    )


DEVICES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        _profile("jetson-nano", "NVIDIA Jetson Nano 4 GB", 4, 25.6),
        _profile("orin-nano-4gb", "NVIDIA Jetson Orin Nano 4 GB", 4, 34.0),
        _profile("orin-nano-8gb", "NVIDIA Jetson Orin Nano 8 GB", 8, 68.0),
        _profile("orin-nx-16gb", "NVIDIA Jetson Orin NX 16 GB", 16, 102.4),
        _profile("agx-orin-32gb", "NVIDIA Jetson AGX Orin 32 GB", 32, 204.8),
        _profile("pi4-4gb", "Raspberry Pi 4, 4 GB", 4, 12.8),
        _profile("pi5-4gb", "Raspberry Pi 5, 4 GB", 4, 17.1),
        _profile("pi5", "Raspberry Pi 5, 8 GB", 8, 17.1),
        _profile("pi-zero-2w", "Raspberry Pi Zero 2 W, 512 MB", 0.5, 3.6),
    )
}
