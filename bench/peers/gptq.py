"""A checkpoint quantized by GPTQModel, on rows of tokens; run with that package's own Python.

    python gptq.py CHECKPOINT ROWS.json OUT BLOCK

ROWS.json is a list of lists of token ids. OUT becomes a checkpoint that onnxruntime-genai's builder
reads.
"""

import json
import os
import sys

# Its loader wants two threads, also where half of the cores are fewer.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")

from gptqmodel import BACKEND, GPTQModel, QuantizeConfig


def main() -> None:
    checkpoint, rows, out, block = sys.argv[1:]
    with open(rows, encoding="utf-8") as stream:
        text = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in json.load(stream)]
    config = QuantizeConfig(bits=4, group_size=int(block), sym=True, desc_act=False, device="cpu")
    model = GPTQModel.load(checkpoint, config, backend=BACKEND.AUTO)
    model.quantize(text, batch_size=1)
    model.save(out)


if __name__ == "__main__":
    main()
