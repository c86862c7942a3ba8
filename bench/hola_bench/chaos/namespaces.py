"""Network namespaces of our own, one for each process, joined by a bridge: real packets, real loss.

The calling process must itself be in a namespace made for this (`unshare --net`): the bridge is
made there. Delay and jitter need the kernel's netem; without it packets are dropped by a
classic-BPF filter, and DELAY is left out.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
from collections.abc import Sequence

from hola.errors import HolaError
from hola_bench.chaos.schedule import Kind

SUBNET = "10.77.0"
BRIDGE = "hola0"
PORT = 7070
TOOLS = ("ip", "tc", "nsenter", "unshare")
# ld rand; jge share, drop; accept. A packet is dropped when a random word is below `share`.
_DROP = "4,32 0 0 4294963256,53 0 1 {share},6 0 0 4294967295,6 0 0 2"
_WORD = 2**32 - 1
_HOLD_S = "86400"


def missing_tool() -> str:
    """The first program that namespaces need and this machine lacks; empty when all are there."""
    path = with_system_programs()["PATH"]
    return next((tool for tool in TOOLS if shutil.which(tool, path=path) is None), "")


def with_system_programs() -> dict[str, str]:
    """This process's environment, with the folders of system programs that a user's PATH lacks."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return {**os.environ, "PATH": path}


class Namespaces:
    """A `Network` of namespaces; made by `open`."""

    def __init__(self, *, netem: str) -> None:
        """`netem` says why the kernel has none; empty when it has."""
        self._netem = netem
        self._holders: dict[str, asyncio.subprocess.Process] = {}

    @classmethod
    async def open(cls) -> Namespaces:
        """Bring up the bridge. Raises HolaError when the system refuses."""
        await _run("ip", "link", "set", "lo", "up")
        await _run("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        await _run("ip", "address", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
        await _run("ip", "link", "set", BRIDGE, "up")
        try:
            await _run("tc", "qdisc", "add", "dev", BRIDGE, "root", "netem", "delay", "0ms")
            await _run("tc", "qdisc", "del", "dev", BRIDGE, "root")
        except HolaError as refused:
            return cls(netem=refused.message)
        return cls(netem="")

    @property
    def links(self) -> frozenset[Kind]:
        """CUT and LOSE always, DELAY with netem."""
        return frozenset({Kind.CUT, Kind.LOSE} | ({Kind.DELAY} if not self._netem else set()))

    @property
    def notes(self) -> dict[str, str]:
        """The state of netem."""
        if not self._netem:
            return {"network": "namespaces", "netem": "used for loss, delay and jitter"}
        return {
            "network": "namespaces",
            "netem": f"skipped ({self._netem}); packets dropped by a BPF filter, no delay",
        }

    async def place(self, name: str) -> None:
        """A namespace held by a sleeping process, with one link to the bridge."""
        holder = await asyncio.create_subprocess_exec(
            "unshare",
            "--net",
            "sleep",
            _HOLD_S,
            env=with_system_programs(),
            preexec_fn=die_with_parent,
        )
        self._holders[name] = holder
        outside = f"v{len(self._holders)}"
        await self._until_inside(holder)
        await _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0",
                   "netns", str(holder.pid))  # fmt: skip
        await _run("ip", "link", "set", outside, "master", BRIDGE, "up")
        for command in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "address", "add", f"{self._host(name)}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
        ):
            await _run(*self.inside(name, command))

    def listen(self, name: str) -> str:
        """The place's own address."""
        return f"{self._host(name)}:{PORT}"

    def reach(self, name: str, peer: str = "") -> str:
        """The same from everywhere."""
        return self.listen(name)

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """In the namespace, with the same process id as the command itself."""
        return ["nsenter", "--target", str(self._holders[name].pid), "--net", *command]

    async def spoil(self, name: str, kind: Kind, amount: float) -> None:
        """CUT takes the link off the bridge; the rest happens to packets in both directions."""
        outside = self._outside(name)
        if kind is Kind.CUT:
            await _run("ip", "link", "set", outside, "nomaster")
        elif not self._netem:
            how = ["loss", f"{amount:.2%}"]
            if kind is Kind.DELAY:
                how = ["delay", f"{amount / 2:.3f}s", f"{amount / 2:.3f}s"]
            await _run("tc", "qdisc", "add", "dev", outside, "root", "netem", *how)
        else:
            share = str(int(amount * _WORD))
            await _run("tc", "qdisc", "add", "dev", outside, "clsact")
            for way in ("ingress", "egress"):
                await _run("tc", "filter", "add", "dev", outside, way, "bpf", "da", "bytecode",
                           _DROP.format(share=share))  # fmt: skip

    async def heal(self, name: str) -> None:
        """Back on the bridge, without any filter."""
        outside = self._outside(name)
        await _run("ip", "link", "set", outside, "master", BRIDGE)
        for kind in ("root", "clsact"):
            try:
                await _run("tc", "qdisc", "del", "dev", outside, kind)
            except HolaError:
                continue  # there was none of this kind

    async def close(self) -> None:
        """The namespaces and their links go with the processes that hold them."""
        for holder in self._holders.values():
            if holder.returncode is None:
                holder.kill()
            await holder.wait()
        self._holders.clear()

    def _host(self, name: str) -> str:
        return f"{SUBNET}.{list(self._holders).index(name) + 2}"

    def _outside(self, name: str) -> str:
        return f"v{list(self._holders).index(name) + 1}"

    async def _until_inside(self, holder: asyncio.subprocess.Process) -> None:
        """Wait until the holder has left our own namespace."""
        own = await _run("readlink", "/proc/self/ns/net")
        for _ in range(500):
            if await _run("readlink", f"/proc/{holder.pid}/ns/net") != own:
                return
            await asyncio.sleep(0.01)
        raise HolaError("a new network namespace did not come up within 5 s")


def die_with_parent() -> None:
    """In a child before it runs its program: be killed when the parent dies of anything."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=with_system_programs(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        why = " ".join(err.decode(errors="replace").split())
        raise HolaError(f"{' '.join(command[:4])}: {why}")
    return out.decode().strip()
