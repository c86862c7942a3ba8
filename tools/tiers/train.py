"""Trains one tier on CPU for a given time, with resumable checkpoints."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tools.tiers import optim, tokenizer as vocabulary
from tools.tiers.feed import Feed, Position, shipped_position
from tools.tiers.model import (
    SHAPES,
    Llama,
    count_parameters,
    load_checkpoint,
    load_hf,
    save_checkpoint,
)
from tools.tiers.team import Team, launch


@dataclass(frozen=True)
class Plan:
    """How one stage is trained; progress is wall-clock time over `minutes`."""

    minutes: float
    rows: int
    width: int
    muon_lr: float
    adam_lr: float
    decay: float
    knowledge_from: float
    knowledge_to: float
    save_every: float = 180.0
    log_every: int = 50

    def rate(self, progress: float, warm: float) -> float:
        """Learning-rate factor: warm-up, flat, then linear to zero over the last `decay`."""
        up = min(1.0, (warm + 1) / 30)
        down = min(1.0, (1 - progress) / self.decay) if self.decay else 1.0
        return up * max(down, 0.01)

    def knowledge(self, progress: float) -> float:
        """The share of the exposure queue due by now."""
        late = min(1.0, progress * 1.02)
        return self.knowledge_from + late * (self.knowledge_to - self.knowledge_from)


def loss_of(model: Llama, trunk: Callable[..., Tensor], batch: tuple[np.ndarray, ...]) -> Tensor:
    """Mean loss over the learned tokens of a packed batch."""
    ids, owner, learned = (torch.from_numpy(a) for a in batch)
    t = ids.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool).tril()
    mask = (owner[:, None, :, None] == owner[:, None, None, :]) & causal
    chosen = learned[:, 1:].flatten().nonzero().squeeze(1)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = trunk(ids, mask)[:, :-1].flatten(0, 1)
        logits = model.logits(hidden.index_select(0, chosen))
    return F.cross_entropy(logits.float(), ids[:, 1:].flatten().index_select(0, chosen))


class Trainer:
    """One training stage."""

    def __init__(self, plan: Plan, model: Llama, feed: Feed, out: Path, compile_it: bool) -> None:
        self.plan, self.model, self.feed, self.out = plan, model, feed, out
        self.team = Team()
        self.optimizers = optim.make(model, plan.muon_lr, plan.adam_lr, self.team)
        self.base = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.trunk = torch.compile(model.model) if compile_it else model.model
        self.steps, self.elapsed = 0, 0.0

    def resume(self, stored: dict) -> None:
        """Take over optimizer state and counters of the same stage."""
        for optimizer, state in zip(self.optimizers, stored["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.steps, self.elapsed = stored["steps"], stored["elapsed"]

    def save(self) -> None:
        """Write the checkpoint; one process does it for all."""
        if self.team.rank:
            return
        save_checkpoint(
            self.model,
            self.out,
            position=self.feed.at,
            steps=self.steps,
            elapsed=self.elapsed,
            knowledge_from=self.plan.knowledge_from,
            optimizers=[o.state_dict() for o in self.optimizers],
        )

    def step(self, progress: float) -> float:
        """One update."""
        factor = self.plan.rate(progress, self.steps)
        for optimizer, base in zip(self.optimizers, self.base, strict=True):
            optimizer.param_groups[0]["lr"] = base * factor
        share = self.plan.knowledge(progress)
        batch = self.team.part(self.feed.batch(self.plan.rows, share))
        loss = loss_of(self.model, self.trunk, batch)
        loss.backward()
        self.team.average(p.grad for p in self.model.parameters() if p.grad is not None)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.item()

    def run(self) -> None:
        """Train until the time is used up."""
        begun, saved, losses = time.monotonic() - self.elapsed, time.monotonic(), []
        while (progress := self.team.same(self.elapsed / (60 * self.plan.minutes))) < 1:
            losses.append(self.step(progress))
            if self.steps == 1:  # compilation is not training time
                begun = time.monotonic() - self.elapsed
            self.elapsed = time.monotonic() - begun
            if self.steps % self.plan.log_every == 0:
                self.log(progress, sum(losses) / len(losses))
                losses.clear()
            if time.monotonic() - saved > self.plan.save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def log(self, progress: float, loss: float) -> None:
        at = self.feed.at
        if self.team.rank:
            return
        print(
            f"{time.strftime('%H:%M:%S')} step {self.steps} {progress:.3f} loss {loss:.4f} "
            f"tokens {at.tokens / 1e6:.2f}M knowledge {at.knowledge} "
            f"level {self.feed.level()}",
            flush=True,
        )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--start", type=Path, help="checkpoint or shipped target to begin from")
    parser.add_argument("--tier", choices=SHAPES, help="shape, when there is no --start")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=0.004)
    parser.add_argument("--decay", type=float, default=0.0)
    parser.add_argument("--knowledge-to", type=float, default=0.0)
    parser.add_argument("--level", type=int, help="stay at this stage of the curriculum")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="single-threaded processes")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.workers > 1 and "LOCAL_RANK" not in os.environ:
        launch(args.workers, "tools.tiers.train", sys.argv[1:] if arguments is None else arguments)
        return
    torch.manual_seed(args.seed)
    stored: dict = {}
    if args.out.exists():
        model, stored = load_checkpoint(args.out)
        position = stored["position"]
    elif args.start and args.start.is_dir():
        model = load_hf(args.start)
        position = shipped_position(args.start.parent / "exposure.json", args.seed)
    elif args.start:
        model, begun = load_checkpoint(args.start)
        position = begun["position"]
    else:
        model, position = Llama(SHAPES[args.tier]), Position(args.seed)
    feed = Feed(vocabulary.load(args.tokenizer), position, args.width, args.level)
    known = stored.get("knowledge_from", position.knowledge / len(feed.queue))
    plan = Plan(
        args.minutes,
        args.rows,
        args.width,
        args.muon_lr,
        args.adam_lr,
        args.decay,
        known,
        max(known, args.knowledge_to),
    )
    trainer = Trainer(plan, model, feed, args.out, not args.no_compile)
    if stored:
        trainer.resume(stored)
    print(f"{count_parameters(model):,} parameters", flush=True)
    trainer.run()


if __name__ == "__main__":
    main()
