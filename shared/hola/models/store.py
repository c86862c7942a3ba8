"""The model families of this machine: folders with a hola.json, found along a search path."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hola.errors import ArtifactInvalid, HolaError, UnknownModel
from hola.models.family import Family, load_family
from hola.models.manifest import MANIFEST_FILE, NAME


def default_models_dirs(configured: Path | None = None) -> tuple[Path, ...]:
    """Folders that hold model families, most wanted first; at least one, not all may exist.

    `configured` (HOLA_MODELS_DIR) alone if given. Else ./models, the models/ of the checkout this
    package was installed from, both only where they exist, and hola/models in the user's data
    folder (XDG), which is where new families go.
    """
    if configured is not None:
        return (configured,)
    checkout = Path(__file__).resolve().parents[3]
    candidates = [Path("models")]
    if (checkout / "pyproject.toml").is_file():
        candidates.append(checkout / "models")
    found = [folder for folder in candidates if folder.is_dir()]
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    unique = {folder.resolve(): folder for folder in reversed([*found, data / "hola" / "models"])}
    return tuple(reversed(unique.values()))


class ModelStore:
    """Families below one or more roots; the first root that has a name wins.

    A family that was read is kept until its manifest changes.
    """

    def __init__(self, *roots: Path, offline: bool = False) -> None:
        """`roots` as given by `default_models_dirs`; none means its defaults.

        `offline`: what is added here never comes from a hub.
        """
        self._roots = roots or default_models_dirs()
        self.offline = offline
        self._loaded: dict[Path, tuple[int, Family]] = {}

    @classmethod
    def at(cls, configured: str, *, offline: bool = False) -> ModelStore:
        """The store of a setting: the folder HOLA_MODELS_DIR names, or for "" the defaults."""
        roots = default_models_dirs(Path(configured) if configured else None)
        return cls(*roots, offline=offline)

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where families are looked for."""
        return self._roots

    def names(self) -> tuple[str, ...]:
        """Names of all families, usable or not, sorted."""
        return tuple(sorted(self._folders()))

    def list(self) -> tuple[Family, ...]:
        """Every usable family, by name. A broken one is left out: `get` says what is wrong."""
        families = []
        for name in self.names():
            try:
                families.append(self.get(name))
            except HolaError:
                continue
        return tuple(families)

    def get(self, name: str) -> Family:
        """The family called `name`.

        Raises UnknownModel naming the known ones, and what `load_family` raises.
        """
        folders = self._folders()
        if name not in folders:
            known = ", ".join(sorted(folders)) or "none"
            raise UnknownModel(
                f"there is no model {name!r}; known: {known}", model=name, known=known
            )
        folder = folders[name]
        stamp = (folder / MANIFEST_FILE).stat().st_mtime_ns
        cached = self._loaded.get(folder)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        family = load_family(folder)
        if family.name != name:
            raise ArtifactInvalid(
                f"the folder {name} holds a family called {family.name}: rename one of them"
            )
        self._loaded[folder] = (stamp, family)
        return family

    def add(
        self,
        name: str,
        source: str,
        *,
        drafts: Sequence[str] = (),
        precision: str = "int8",
        progress: Callable[[str], None] | None = None,
    ) -> Family:
        """Make a family in the last root; see `hola.models.add.add_model`."""
        from hola.models.add import add_model

        return add_model(self, name, source, drafts=drafts, precision=precision, progress=progress)

    def _folders(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for root in self._roots:
            for manifest in sorted(root.glob(f"*/{MANIFEST_FILE}")):
                name = manifest.parent.name
                if NAME.fullmatch(name):
                    found.setdefault(name, manifest.parent)
        return found
