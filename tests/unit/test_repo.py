"""The repository agrees with itself: versions, Makefile, dependencies, lock file, stubs."""

from __future__ import annotations

import filecmp
import os
import re
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPO = Path(__file__).resolve().parents[2]
PYPROJECT = (REPO / "pyproject.toml").read_text("utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
MAKEFILE = (REPO / "Makefile").read_text("utf-8")
DOCUMENTED = set(re.findall(r"^([a-z][a-z0-9-]*):.*##", MAKEFILE, re.MULTILINE))
CI_ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def declared() -> list[str]:
    """Every dependency of every extra, as written."""
    extras = PROJECT["optional-dependencies"].values()
    return [text for group in (PROJECT["dependencies"], *extras) for text in group]


def locked() -> dict[str, list[str]]:
    """Versions the lock file pins, by canonical name; several where they depend on Python."""
    pins: dict[str, list[str]] = {}
    for line in (REPO / "requirements/lock.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            name, version = line.partition(";")[0].strip().split("==")
            pins.setdefault(canonicalize_name(name), []).append(version)
    return pins


def test_the_version_is_the_changelogs_newest():
    source = (REPO / "shared/hola/__init__.py").read_text("utf-8")
    version = re.search(r'__version__ = "(.+)"', source)
    newest = re.search(r"^## \[(\d[^]]*)\]", (REPO / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert version is not None
    assert newest is not None
    assert version[1] == newest[1]


def test_make_help_lists_the_real_targets_and_no_others():
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].replace("\\", " ").split()) == DOCUMENTED
    run = subprocess.run(
        ["make", "--no-print-directory"], cwd=REPO, env=CI_ENV, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert {line.split()[0] for line in run.stdout.splitlines()} == DOCUMENTED


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", ".pre-commit-config.yaml", ".ci/run", "Makefile"]
)
def test_every_make_target_named_in_a_text_exists(path):
    text = (REPO / path).read_text("utf-8")
    inline = re.findall(r"(?:`|'|entry: |exec )make ([a-z][a-z0-9-]*)", text)
    fenced = re.findall(r"^(?:\$ )?make ([a-z][a-z0-9-]*)(?: +#.*)?$", text, re.MULTILINE)
    named = set(inline + fenced)
    assert named or path == "Makefile"
    assert named <= DOCUMENTED


def test_ci_runs_the_tests():
    assert os.access(REPO / ".ci/run", os.X_OK)
    assert "make test" in (REPO / ".ci/run").read_text("utf-8")


def test_every_dependency_has_a_lower_bound_and_its_reason_beside_it():
    lines = re.findall(r'^  "([a-zA-Z][^"]*[=<>][^"]*)",(.*)$', PYPROJECT, re.MULTILINE)
    assert {text for text, _ in lines} == set(declared())
    for text, rest in lines:
        assert re.fullmatch(r"\s+# \S.{10,}", rest), f"{text}: say why we need it"
        assert any(spec.operator == ">=" for spec in Requirement(text).specifier), text


def test_the_lock_pins_a_version_within_the_bounds_of_every_dependency():
    pins = locked()
    for requirement in map(Requirement, declared()):
        versions = pins[canonicalize_name(requirement.name)]
        assert any(requirement.specifier.contains(version) for version in versions), requirement


def test_the_lock_holds_names_and_versions_only():
    text = (REPO / "requirements/lock.txt").read_text("utf-8")
    assert not re.search(r"://|file:|--|/\w+/| @ |\+cpu", text)


@pytest.mark.parametrize("heavy", ["torch", "transformers", "optimum", "onnx"])
def test_an_edge_install_does_not_ask_for_a_heavy_library(heavy):
    edge = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["edge"]
    assert heavy not in {canonicalize_name(Requirement(text).name) for text in edge}


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_a_script_points_at_a_function_that_is_there(script):
    module, _, function = PROJECT["scripts"][script].partition(":")
    source = (REPO / "services" / (module.replace(".", "/") + ".py")).read_text("utf-8")
    assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE)


@pytest.mark.parametrize(
    ("pattern", "most"), [("CONTRIBUTING.md", 70), ("docs/decisions/*.md", 40)]
)
def test_short_pages_stay_short(pattern, most):
    pages = sorted(REPO.glob(pattern))
    assert pages
    for page in pages:
        lines = len(page.read_text("utf-8").splitlines())
        assert lines <= most, f"{page.name} has {lines} lines"


def test_the_committed_stubs_are_what_the_protos_generate(tmp_path):
    from grpc_tools import protoc

    protos = sorted(str(path) for path in (REPO / "proto/hola/v1").glob("*.proto"))
    assert protos
    include = str(files("grpc_tools") / "_proto")
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main(["protoc", f"-I{REPO / 'proto'}", f"-I{include}", *out, *protos]) == 0
    made = {path.name for path in (tmp_path / "hola/v1").iterdir()}
    stubs = REPO / "shared/hola/v1"
    assert made == {path.name for path in stubs.glob("*_pb2*")}
    _, different, unreadable = filecmp.cmpfiles(stubs, tmp_path / "hola/v1", made, shallow=False)
    assert not different + unreadable, "stale stubs: run `make proto`"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("grpcio", r"GRPC_GENERATED_VERSION = '(.+)'"),
        ("protobuf", r"ValidateProtobufRuntimeVersion\(\s*[\w.]+,\s*(\d+),\s*(\d+),\s*(\d+)"),
    ],
)
def test_the_oldest_allowed_runtime_runs_the_stubs(name, pattern):
    texts = [path.read_text("utf-8") for path in (REPO / "shared/hola/v1").glob("*_pb2*.py")]
    generated = {".".join(match.groups()) for text in texts for match in re.finditer(pattern, text)}
    assert len(generated) == 1
    (requirement,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == name)
    (oldest,) = (s.version for s in requirement.specifier if s.operator == ">=")
    assert Version(oldest) >= Version(generated.pop())
