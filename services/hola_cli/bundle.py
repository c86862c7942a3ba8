"""`hola bundle`: all that an air-gapped site needs in one folder, every file with its sha256."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hola import __version__
from hola.errors import ConfigError
from hola.models.family import verify_digests
from hola.models.store import ModelStore
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption

SUMS = "SHA256SUMS"
# Tags of wheels that Debian 12, Ubuntu 22.04 and their like take.
_GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
_MANIFESTS = ("k8s", "docker-compose.yml", "docs/DEPLOY.md", "docs/SECURITY.md")
# How the manifests name images: in a kustomization, and in a workload or the compose file.
_KUSTOMIZED = re.compile(r"\{name: (\S+?), (?:newName: (\S+), )?newTag: ([\w.-]+)\}")
_NAMED = re.compile(r"image: ([\w.-]+/[\w./-]+:[\w.-]+)")
README = """HOLA {version}, everything for a site without a network.

Check first:      sha256sum --check SHA256SUMS
K3s, every node:  cp images/*.tar /var/lib/rancher/k3s/agent/images/     (then restart K3s)
K3s, the server:  kubectl apply -k manifests/k8s/overlays/k3s-edge      (docs/DEPLOY.md, step 4 on)
Docker:           for f in images/*.tar; do docker load -i $f; done
Without either:   pip install --no-index --find-links wheels/ARCH 'hola-edge[edge,auth]'
                  HOLA_MODELS_DIR=$PWD/models HOLA_OFFLINE=1 hola doctor
images.txt lists the images; those without a file in images/ were not on the machine that made this.
"""


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to fill; new or empty.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Compare an existing bundle with its sums instead.")
    ] = False,
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", metavar="ARCH", help="amd64 or arm64; repeat. Default: both."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="A family to take; repeat. Default: all."),
    ] = None,
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Put images, wheels, models and manifests into DIR for a site without a network.

    Run it in a checkout, on a machine with a network. Images are saved with docker, podman or
    buildah where they have been built (`make images`); wheels come by the hashes in requirements/.

    Examples:

    `hola bundle /media/usb/hola --arch arm64`

    `hola bundle /media/usb/hola --check`
    """
    if check:
        count = verify(folder)
        dump({"files": count, "ok": True}) if json else print(f"{count} files are as recorded")
        return
    unknown = set(arch or ()) - _MACHINES.keys()
    if unknown:
        raise ConfigError(f"--arch is amd64 or arm64, not {', '.join(sorted(unknown))}")
    root = checkout()
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty")
    console = Console(stderr=True, quiet=json)
    take_models(folder, models_dir, model, console)
    take_manifests(root, folder)
    missing = take_images(root, folder, console)
    for one in arch or sorted(_MACHINES):
        take_wheels(root, folder / "wheels" / one, one, console)
    (folder / "README.txt").write_text(README.replace("{version}", __version__), encoding="utf-8")
    sums = "".join(f"{digest(path)}  {path.relative_to(folder)}\n" for path in files_of(folder))
    (folder / SUMS).write_text(sums, encoding="utf-8")
    count = sums.count("\n")
    if json:
        dump({"folder": str(folder), "files": count, "images_missing": missing})
        return
    print(f"{count} files in {folder}; README.txt there says what to do with them")
    if missing:
        print(f"not built here, so not in it: {', '.join(missing)} (`make images`)")


def checkout() -> Path:
    """The checkout that this package runs from. Raises ConfigError when it is installed."""
    for folder in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (folder / "requirements/edge.txt").is_file() and (folder / "k8s").is_dir():
            return folder
    raise ConfigError(
        "a bundle is made in a checkout of HOLA: its requirements and manifests go in"
    )


def verify(folder: Path) -> int:
    """Files that are as recorded. Raises ConfigError naming those that are not, or are extra."""
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{folder} holds no bundle: {error.strerror}") from None
    recorded = {line[66:]: line[:64] for line in lines}
    found = {str(path.relative_to(folder)): path for path in files_of(folder)}
    wrong = [name for name, want in recorded.items() if name not in found]
    wrong += [name for name, path in found.items() if recorded.get(name) != digest(path)]
    if wrong:
        raise ConfigError(f"missing, changed or not recorded: {', '.join(sorted(set(wrong)))}")
    return len(recorded)


def files_of(folder: Path) -> list[Path]:
    """All files but the sums, in order."""
    paths = sorted(folder.rglob("*"))
    return [path for path in paths if path.is_file() and path.name != SUMS]


def digest(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take_models(
    folder: Path, models_dir: str | None, names: Sequence[str] | None, console: Console
) -> None:
    """Copy families whose files are all as recorded. Raises UnknownModel, ArtifactCorrupt."""
    store = ModelStore.at(settings_for(FamilyOptions(models_dir=models_dir)).models_dir)
    for name in names or store.names():
        family = store.get(name)
        console.print(f"model {name}")
        verify_digests(family)
        shutil.copytree(family.path, folder / "models" / name)


def take_manifests(root: Path, folder: Path) -> None:
    """Copy the manifests and the pages that say how to use them."""
    for name in _MANIFESTS:
        source, place = root / name, folder / "manifests" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("secrets"))
        else:
            shutil.copyfile(source, place)


def images_named(root: Path) -> list[str]:
    """The images of the K3s overlay's manifests and of the compose file, with their tags.

    By tag and not by digest: an archive of an image does not keep the digest of its registry.
    """
    files = [*sorted((root / "k8s").rglob("*.yaml")), root / "docker-compose.yml"]
    text = "".join(path.read_text("utf-8") for path in files)
    kustomized = {f"{new or name}:{tag}" for name, new, tag in _KUSTOMIZED.findall(text)}
    return sorted(kustomized | set(_NAMED.findall(text)))


def take_images(root: Path, folder: Path, console: Console) -> list[str]:
    """Save what a container tool here has; the names of the others."""
    names = images_named(root)
    (folder / "images").mkdir(parents=True)
    (folder / "images.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    missing = []
    for name in names:
        place = folder / "images" / (re.sub(r"[/:@]", "_", name) + ".tar")
        if any(run(words) for words in savers(name, place)):
            console.print(f"image {name}")
        else:
            place.unlink(missing_ok=True)
            missing.append(name)
    return missing


def savers(name: str, place: Path) -> Iterator[list[str]]:
    """Commands that would save an image, of the tools that are here."""
    for tool in ("docker", "podman"):
        if shutil.which(tool):
            yield [tool, "save", "--output", str(place), name]
    if shutil.which("buildah"):
        yield ["buildah", "push", "--quiet", name, f"docker-archive:{place}:{name}"]


def run(words: Sequence[str]) -> bool:
    """Whether a command succeeded; what it says is not shown."""
    return not subprocess.run(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode


def take_wheels(root: Path, place: Path, arch: str, console: Console) -> None:
    """Download the edge wheels for `arch`, by hash, and build ours. Raises ConfigError."""
    console.print(f"wheels for {arch}")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    tags = [word for tag in _GLIBC for word in ("--platform", f"{tag}_{_MACHINES[arch]}")]
    exact = ["--no-deps", "--only-binary", ":all:", "--require-hashes", *tags]
    lock = str(root / "requirements/edge.txt")
    for words in (
        [*pip, "download", "--dest", str(place), *exact, "-r", lock],
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(place), str(root)],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"pip could not get the wheels for {arch}: {done.stderr.strip()}")
