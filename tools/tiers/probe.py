"""A quick look at a checkpoint: how often it would write the whole reference, token by token."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tools.tiers import heldout, tokenizer as vocabulary
from tools.tiers.model import Llama, load_checkpoint


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The chat form of one user turn."""
    text = tokenizer.encode(prompt).ids
    return [vocabulary.BOS_ID, vocabulary.USER_ID, *text, vocabulary.ASSISTANT_ID]


@torch.no_grad()
def exact(model: Llama, tokenizer: Tokenizer, items: list[heldout.Item]) -> list[bool]:
    """Whether greedy decoding gives exactly the reference, from one teacher-forced pass each."""
    rows = []
    for item in items:
        prompt = prompt_ids(tokenizer, str(item["prompt"]))
        answer = [*tokenizer.encode(str(item["reference"])).ids, vocabulary.EOS_ID]
        rows.append((prompt, answer))
    width = max(len(p) + len(a) for p, a in rows)
    ids = torch.full((len(rows), width), vocabulary.PAD_ID)
    for r, (p, a) in enumerate(rows):
        ids[r, : len(p) + len(a)] = torch.tensor(p + a)
    mask = torch.ones(width, width, dtype=torch.bool).tril()[None, None]
    with torch.autocast("cpu", torch.bfloat16):
        guess = model(ids, mask).argmax(-1)
    return [
        guess[r, len(p) - 1 : len(p) + len(a) - 1].tolist() == a for r, (p, a) in enumerate(rows)
    ]


def report(model: Llama, tokenizer: Tokenizer, count: int) -> dict[str, float]:
    """Exact match per held-out set, the knowledge base by bucket."""
    results: dict[str, list[bool]] = defaultdict(list)
    for name, items in heldout.build().items():
        part = items if name == "knowledge" else items[:count]
        for start in range(0, len(part), 60):
            chunk = part[start : start + 60]
            for item, good in zip(chunk, exact(model, tokenizer, chunk), strict=True):
                meta = item["meta"]
                assert isinstance(meta, dict)
                tag = meta.get("bucket", meta.get("people", meta.get("over", "")))
                results[f"{name} {tag}".strip()].append(good)
                if "new_plan" in meta:
                    results[f"{name} new_plan={meta['new_plan']}"].append(good)
    return {k: sum(v) / len(v) for k, v in results.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--count", type=int, default=90)
    args = parser.parse_args()
    loaded, _ = load_checkpoint(args.checkpoint)
    for task, share in report(loaded, vocabulary.load(args.tokenizer), args.count).items():
        print(f"{task:44s} {share:.3f}")
