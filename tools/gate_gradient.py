"""The paper's C(q) by autograd, beside the closed form that the gate computes from logits alone."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family, load_family
from hola.models.prompt import render_chat
from hola.retrieval.gate.draft import Draft, draft_answer
from hola.retrieval.gate.head import load_head
from hola.retrieval.gate.measures import spearman
from hola.types import ChatMessage
from tools.tiers.model import Llama, load_hf


@dataclass(frozen=True)
class Exact:
    """Norms of the gradient of a given answer's mean negative log likelihood.

    `weight`: in the output layer. `hidden`: in each answer token's last hidden state, of its own
    NLL, the mean over tokens. `query`: in the embeddings of the prompt's tokens, the paper's
    grad_q L to the letter.
    """

    weight: float
    hidden: float
    query: float


def exact_gradients(model: Llama, prompt: list[int], answer: list[int]) -> Exact:
    """One forward and one backward pass in fp32."""
    ids = torch.tensor([prompt + answer[:-1]])
    trunk = model.model
    embedded = trunk.embed_tokens(ids).detach().requires_grad_()
    hidden = _last_hidden(model, embedded)[:, len(prompt) - 1 :]
    weight = trunk.embed_tokens.weight.detach().clone().requires_grad_()
    loss = F.cross_entropy(F.linear(hidden[0], weight), torch.tensor(answer))
    at_weight, at_hidden, at_input = torch.autograd.grad(loss, (weight, hidden, embedded))
    return Exact(
        weight=float(at_weight.norm()),
        hidden=float(at_hidden[0].norm(dim=-1).mean()) * len(answer),
        query=float(at_input[0, : len(prompt)].norm()),
    )


def _last_hidden(model: Llama, embedded: Tensor) -> Tensor:
    """The trunk from embeddings on, so that they can be differentiated by."""
    trunk, length = model.model, embedded.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    x = embedded
    for layer in trunk.layers:
        x = layer(x, trunk.cos[:length], trunk.sin[:length], mask)
    return trunk.norm(x)


def compare(family: Family, tier: str, questions: list[str]) -> dict[str, object]:
    """Spearman of closed forms on the tier's own graph with exact gradients on its fp32 weights."""
    folder = family.tier(tier).path
    tokenizer = load_tokenizer(folder)
    engine, head = load_engine(folder, threads=1), load_head(folder)
    model = load_hf(folder).eval()
    drafts: list[Draft] = []
    exact: list[Exact] = []
    try:
        for question in questions:
            text = render_chat(family, [ChatMessage(role="user", content=question)])
            prompt = tokenizer.encode(text)
            draft = draft_answer(engine, prompt, head=head)
            if draft.tokens:
                drafts.append(draft)
                exact.append(exact_gradients(model, prompt, list(draft.tokens)))
    finally:
        engine.close()
    closed = {
        "weight": [draft.signals["u_weight_gradient"] for draft in drafts],
        "hidden": [draft.signals["u_gradient_mean"] for draft in drafts],
        "residual": [draft.signals["u_residual_mean"] for draft in drafts],
        "nll": [draft.signals["u_nll_mean"] for draft in drafts],
    }
    found = {name: np.array([asdict(each)[name] for each in exact]) for name in asdict(exact[0])}
    return {
        "tier": tier,
        "questions": len(drafts),
        "spearman": {
            f"{name} with exact {of}": round(spearman(np.array(values), found[of]), 4)
            for name, values in closed.items()
            for of in found
        },
        "median_relative_difference": {
            of: round(float(np.median(np.abs(np.array(closed[of]) / found[of] - 1))), 4)
            for of in ("weight", "hidden")
        },
    }


def knowledge_questions(family: Family, count: int) -> list[str]:
    """`count` of the knowledge base's questions, evenly over the exposure buckets."""
    lines = (family.path / "heldout" / "knowledge.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines[:: max(len(lines) // count, 1)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models/demo"))
    parser.add_argument("--questions", type=int, default=240)
    options = parser.parse_args()
    torch.set_num_threads(1)
    family = load_family(options.models)
    questions = knowledge_questions(family, options.questions)
    for tier in family.tiers:
        print(json.dumps(compare(family, tier.name, questions), indent=1))


if __name__ == "__main__":
    main()
