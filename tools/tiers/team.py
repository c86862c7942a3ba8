"""Training in several single-threaded processes that meet once a step.

On a busy machine threads that wait for each other after every operation lose far more time than
processes that do so once a step.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


def launch(size: int, module: str, arguments: list[str]) -> None:
    """Run a module in several processes that form a team, and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    members = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**common, "RANK": str(i), "LOCAL_RANK": str(i)},
        )
        for i in range(size)
    ]
    failed = [member.wait() for member in members]
    if any(failed):
        raise RuntimeError("a member of the team failed")


class Team:
    """This process among its equals; alone when no launcher started it."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        if "LOCAL_RANK" in os.environ:
            torch.set_num_threads(1)
            dist.init_process_group("gloo")
            self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def same(self, value: float) -> float:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def part(self, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """This process's rows of a batch that all have made alike."""
        return tuple(a[self.rank :: self.size] for a in batch)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace gradients by their mean over the team, in one message."""
        if self.size == 1:
            return
        todo = list(tensors)
        flat = torch.cat([t.flatten() for t in todo])
        dist.all_reduce(flat)
        flat /= self.size
        pieces = flat.split([t.numel() for t in todo])
        for tensor, piece in zip(todo, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def gather(self, mine: dict[int, Tensor], shapes: list[torch.Size]) -> list[Tensor]:
        """Put together what each process has worked out of a list of tensors."""
        if self.size == 1:
            return [mine[i] for i in range(len(shapes))]
        zero = torch.zeros(())
        flat = torch.cat(
            [(mine[i] if i in mine else zero.expand(s)).flatten() for i, s in enumerate(shapes)]
        )
        dist.all_reduce(flat)
        pieces = flat.split([s.numel() for s in shapes])
        return [p.view(s) for p, s in zip(pieces, shapes, strict=True)]
