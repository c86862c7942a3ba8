"""Writes requirements/: lock.txt for development, and one file with hashes for each image.

python -m tools.lock            # what `make lock` runs; --keep leaves versions as they are
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("requirements")
LOCK = FOLDER / "lock.txt"
RESOLVE = ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate"]
# What the CUDA build of torch asks for. The compressor's image takes the CPU build, without these.
CUDA = (
    "cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc"
    " nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand"
    " nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink"
    " nvidia-nvshmem-cu13 nvidia-nvtx triton"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image's environment holds: our extras, less `without` and what only that needs."""

    extras: tuple[str, ...]
    without: tuple[str, ...] = ()
    not_listed: tuple[str, ...] = ()


# tokenizers asks for the hub's client, which nothing that runs models needs: 30 MB, and a way out.
_NO_HUB = ("huggingface-hub",)
_NEVER = "sys_platform == 'never'"
IMAGES = {
    "edge": Image(extras=("edge", "auth", "otel"), without=_NO_HUB),
    "router": Image(extras=("edge", "auth", "otel", "retrieval", "weaviate"), without=_NO_HUB),
    "verifier-cpu": Image(extras=("edge", "auth", "otel"), without=_NO_HUB),
    "verifier-gpu": Image(extras=("edge-gpu", "auth", "otel"), without=_NO_HUB),
    # torch itself is in no list: its CPU build has another index, and so other hashes.
    "compressor": Image(
        extras=("edge", "auth", "otel", "retrieval", "compress"), not_listed=("torch", *CUDA)
    ),
}


def main() -> None:
    """Resolve everything anew, or with --keep only what is not in lock.txt yet."""
    parser = argparse.ArgumentParser(description="Write requirements/.")
    parser.add_argument("--keep", action="store_true", help="keep the versions of lock.txt")
    keep = parser.parse_args().keep
    upgrade = [] if keep else ["--upgrade"]
    text = compiled("pyproject.toml", "--all-extras", *upgrade, output=LOCK)
    LOCK.write_text(
        "# Made by `make lock` (uv pip compile, every extra, every platform)."
        " Used as constraints: pip install -c.\n" + text,
        encoding="utf-8",
    )
    for name, image in IMAGES.items():
        write(name, image)
    build = compiled("-", "--generate-hashes", stdin="hatchling\npip\n")
    (FOLDER / "build.txt").write_text(headed("what builds our wheel", build), encoding="utf-8")


def write(name: str, image: Image) -> None:
    """requirements/NAME.txt: exact versions of lock.txt, with the hashes of every platform."""
    words = ["pyproject.toml", "--generate-hashes", "--constraint", str(LOCK)]
    words += [word for extra in image.extras for word in ("--extra", extra)]
    words += [word for package in image.not_listed for word in ("--no-emit-package", package)]
    never = "".join(f"{package} ; {_NEVER}\n" for package in image.without)
    overrides = FOLDER / f".{name}.overrides"
    overrides.write_text(never, encoding="utf-8")
    try:
        text = compiled(*words, "--overrides", str(overrides))
    finally:
        overrides.unlink()
    text = headed(f"the image `{name}`", without_never(text))
    (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


def without_never(text: str) -> str:
    """Less the blocks (a package and its hashes) that only an excluded package asked for."""
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if _NEVER not in block)


def headed(what: str, text: str) -> str:
    """`text` below a line that says what it is for."""
    return f"# Made by `make lock`: {what}, installed with --require-hashes.\n{text}"


def compiled(*words: str, output: Path | None = None, stdin: str | None = None) -> str:
    """What `uv pip compile` resolves; `output` only tells which versions are there already."""
    kept = ["--output-file", str(output)] if output else []
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *RESOLVE, *kept, *words]
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, text=True, check=True)
    text = output.read_text("utf-8") if output else done.stdout
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))


if __name__ == "__main__":
    main()
