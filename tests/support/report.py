"""A compression report with every part in it."""

from __future__ import annotations

from hola.compression.report import (
    DraftRow,
    Exactness,
    PassRow,
    Point,
    Quality,
    Report,
    Speed,
    TaskRow,
    TensorRow,
)

KINDS = ("qkv_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def full_report(layers: int = 8) -> Report:
    """Plausible numbers; none of them was measured."""
    tensors = [
        TensorRow(
            name=f"layers.{layer}.{kind}",
            layer=layer,
            kind=kind,
            rows=256,
            columns=512,
            bits=(8, 4, 4, 2, 4)[(layer + KINDS.index(kind)) % 5],
            block=32,
            symmetric=layer % 2 == 0,
            bytes=70_000,
            damage=1e-3 * (layer + 1),
        )
        for layer in range(layers)
        for kind in KINDS
    ]
    head = TensorRow(name="lm_head", layer=-1, kind="lm_head", rows=4096, columns=256, bits=16,
                     block=32, symmetric=True, bytes=2_000_000, damage=0.01)  # fmt: skip
    return Report(
        source="demo/target",
        parameters=14_000_000,
        bytes=8_400_000,
        overhead_bytes=60_000,
        bits_per_weight=4.8,
        original_bytes=28_000_000,
        budget_bytes=8_500_000,
        plan={"target_bytes": 8_500_000, "note": "<script>alert(1)</script>"},
        calibration_sha256="ab" * 32,
        tokenizer_fingerprint="cd" * 32,
        license="Apache-2.0",
        quality=(
            Quality(text="calibration", tokens=4096, perplexity=3.31, original_perplexity=3.2,
                    kld_mean=0.021, kld_p99=0.4, top1_agreement=0.951),
        ),
        tensors=(*tensors, head),
        passes=(
            PassRow(name="round", kld_mean=0.06),
            PassRow(name="compensate", kld_mean=0.035),
            PassRow(name="recover", kld_mean=0.05, kept=False, note="made it worse"),
            PassRow(name="repair", kld_mean=0.021),
        ),
        pareto=tuple(
            Point(name=f"{bits} bits", bytes=bits * 1_800_000, bits_per_weight=bits,
                  kld_mean=0.8 / 2**bits, perplexity=3.2 + 2 / 2**bits)
            for bits in (2, 3, 4, 5, 6, 8)
        ),
        tasks=(
            TaskRow(task="word problems", metric="ema", questions=300, before=0.62, after=0.6),
            TaskRow(task="choice", metric="mca", questions=200, before=0.41, after=0.42),
        ),
        exactness=Exactness(exact=True, fingerprint="ef" * 32, max_logit_error=0.02, tolerance=0.1),
        speed=Speed(prefill_tokens_per_s=900, decode_tokens_per_s=140,
                    original_prefill_tokens_per_s=850, original_decode_tokens_per_s=90,
                    resident_bytes=20_000_000),
        draft=DraftRow(target="demo", acceptance=0.71, tokens_per_s=180, plain_tokens_per_s=120,
                       draft_tokens=4),
    )  # fmt: skip
