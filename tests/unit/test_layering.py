"""Who may import whom and how long things may get, checked on all our packages' syntax trees."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ROOTS = ("shared", "services", "bench")
SERVICES = {"hola_router", "hola_drafter", "hola_verifier", "hola_compressor"}
COMPOSERS = {"hola_cli", "hola_bench"}  # may import services: they compose them in one process
MODEL_LIBRARIES = {"onnxruntime", "onnxruntime_genai", "torch", "transformers", "tokenizers"}
# Here a function may import a model library: to export, compress or report versions.
LAZY_MODEL_PACKAGES = {"hola_cli", "hola_bench", "hola_compressor"}
PURE_HOLA = (
    *("hola.speculation", "hola.enums", "hola.types", "hola.errors", "hola.ports", "hola.plan"),
    "hola.retrieval.gate.policy",
)
# These may import them at the top, and are themselves imported only by functions.
MODEL_PACKAGES = ("hola.engines", "hola_compressor.passes", "hola_bench.compression")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_SERVICER_STATEMENTS = 12


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module name; `top` when it runs at import time."""

    name: str
    line: int
    top: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A source file of ours, parsed."""

    name: str
    path: str
    source: str

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_pure(self) -> bool:
        stem = Path(self.path).stem
        return within(
            self.name, "hola.speculation", "hola.types", "hola.enums", "hola.plan"
        ) or stem in {
            "policy",
            "pacing",
        }

    @property
    def is_servicer(self) -> bool:
        return Path(self.path).name == "servicer.py"

    def imports(self) -> Iterator[Import]:
        yield from _imports(ast.parse(self.source), top=True)


def within(name: str, *parents: str) -> bool:
    """True when the dotted name is one of the parents or inside one."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def _imports(node: ast.AST, *, top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, top)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            for alias in child.names:  # `from hola import engines` imports hola.engines
                yield Import(f"{module}.{alias.name}", child.lineno, top)
        else:
            if isinstance(child, ast.Call) and (name := _imported_by_call(child)):
                yield Import(name, child.lineno, top)
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, top=top and not deferred and not _is_type_checking(child))


def _imported_by_call(call: ast.Call) -> str | None:
    """The module that `require("x", extra)` or `import_module("x")` imports."""
    function = ast.unparse(call.func).rpartition(".")[2]
    if function in {"require", "import_module", "__import__"} and call.args:
        first = call.args[0]
        return first.value if isinstance(first, ast.Constant) else None
    return None


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def modules() -> tuple[Module, ...]:
    """Every source file of the three roots; stubs, and scripts for others' Pythons, left out."""
    found = []
    for root in ROOTS:
        for path in sorted((REPO / root).rglob("*.py")):
            parts = path.relative_to(REPO / root).with_suffix("").parts
            if parts[:2] != ("hola", "v1") and parts[0] != "peers":
                name = ".".join(parts).removesuffix(".__init__")
                found.append(Module(name, str(path.relative_to(REPO)), path.read_text("utf-8")))
    return tuple(found)


def library_imports_a_service(module: Module) -> Iterator[str]:
    if module.package == "hola":
        for used in module.imports():
            if used.name.partition(".")[0].startswith("hola_"):
                yield f"{module.path}:{used.line} imports {used.name}: hola stands below services"


def service_imports_a_service(module: Module) -> Iterator[str]:
    if module.package in SERVICES:
        for used in module.imports():
            package = used.name.partition(".")[0]
            if package in (SERVICES | COMPOSERS) - {module.package}:
                yield f"{module.path}:{used.line} imports {used.name}: talk through a port"


def pure_module_imports_the_world(module: Module) -> Iterator[str]:
    if module.is_pure:
        for used in module.imports():
            first = used.name.partition(".")[0]
            allowed = first == "numpy" or first in sys.stdlib_module_names
            if not allowed and not within(used.name, *PURE_HOLA):
                yield f"{module.path}:{used.line} imports {used.name}: pure modules need only numpy"


def model_library_outside_engines(module: Module) -> Iterator[str]:
    if not within(module.name, *MODEL_PACKAGES):
        for used in module.imports():
            lazy = not used.top and module.package in LAZY_MODEL_PACKAGES
            if used.name.partition(".")[0] in MODEL_LIBRARIES and not lazy:
                yield f"{module.path}:{used.line} imports {used.name}: only hola/engines may"


def tracing_library_outside_its_exporter(module: Module) -> Iterator[str]:
    if module.name != "hola.tracing_export":
        for used in module.imports():
            if (
                used.name.partition(".")[0] == "opentelemetry"
                and used.name != "opentelemetry.sdk.trace"
            ):
                yield f"{module.path}:{used.line} imports {used.name}: use hola.tracing"


def servicer_computes(module: Module) -> Iterator[str]:
    if module.is_servicer:
        for used in module.imports():
            if used.name.partition(".")[0] in MODEL_LIBRARIES | {"numpy", "redis"}:
                yield f"{module.path}:{used.line} imports {used.name}: servicers convert and call"


def servicer_method_too_long(module: Module) -> Iterator[str]:
    if module.is_servicer:
        for function in functions(module):
            size = statements(function)
            if size > MAX_SERVICER_STATEMENTS:
                where = f"{module.path}:{function.lineno} {function.name}"
                yield f"{where} has {size} statements, {MAX_SERVICER_STATEMENTS} allowed"


def file_too_long(module: Module) -> Iterator[str]:
    lines = module.source.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"{module.path} has {lines} lines, {MAX_FILE_LINES} allowed"


def function_too_long(module: Module) -> Iterator[str]:
    for function in functions(module):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            where = f"{module.path}:{function.lineno} {function.name}"
            yield f"{where} has {lines} lines, {MAX_FUNCTION_LINES} allowed"


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Statements in the body, nested ones included, the docstring left out."""
    nested = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return nested - (ast.get_docstring(function) is not None)


RULES = [
    library_imports_a_service,
    service_imports_a_service,
    pure_module_imports_the_world,
    model_library_outside_engines,
    tracing_library_outside_its_exporter,
    servicer_computes,
    servicer_method_too_long,
    file_too_long,
    function_too_long,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module_breaks_the_rule(rule):
    offenders = [offence for module in modules() for offence in rule(module)]
    assert not offenders, "\n" + "\n".join(offenders)


def test_every_package_was_looked_at():
    assert {module.package for module in modules()} == {"hola"} | SERVICES | COMPOSERS


def test_the_rules_have_something_to_look_at():
    assert {m.package for m in modules() if m.is_servicer} == SERVICES
    assert sum(m.is_pure for m in modules()) >= 5
    libraries = {
        used.name.partition(".")[0]
        for m in modules()
        if within(m.name, "hola.engines")
        for used in m.imports()
    }
    assert {"onnxruntime", "tokenizers"} <= libraries


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_importing_a_service_loads_no_model_library(service):
    code = f"import sys, {service}.app; print(*sorted({MODEL_LIBRARIES} & set(sys.modules)))"
    path = os.pathsep.join(str(REPO / root) for root in ROOTS)
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


BAD = [
    (library_imports_a_service, "shared/hola/x.py", "from hola_router import policy"),
    (service_imports_a_service, "services/hola_router/x.py", "import hola_drafter.app"),
    (pure_module_imports_the_world, "services/hola_router/policy.py", "import redis"),
    (pure_module_imports_the_world, "shared/hola/speculation/x.py", "from hola.bus import redis"),
    (model_library_outside_engines, "shared/hola/rpc/x.py", "def f():\n    import torch"),
    (model_library_outside_engines, "services/hola_cli/x.py", "import onnxruntime as ort"),
    (model_library_outside_engines, "shared/hola/x.py", "def f():\n    require('torch', 'edge')"),
    (
        tracing_library_outside_its_exporter,
        "shared/hola/rpc/x.py",
        "from opentelemetry import trace",
    ),
    (servicer_computes, "services/hola_router/servicer.py", "import numpy as np"),
    (servicer_method_too_long, "services/hola_router/servicer.py", "def f():" + "\n x = 1" * 13),
    (file_too_long, "shared/hola/x.py", "x = 1\n" * 401),
    (function_too_long, "shared/hola/x.py", "def f():" + "\n x = 1" * 60),
]
GOOD = [
    (service_imports_a_service, "services/hola_cli/x.py", "import hola_drafter.app"),
    (pure_module_imports_the_world, "services/hola_router/policy.py", "from hola.types import A"),
    (model_library_outside_engines, "shared/hola/engines/x.py", "import onnxruntime"),
    (model_library_outside_engines, "services/hola_cli/x.py", "def f():\n    import torch"),
    (servicer_method_too_long, "services/hola_router/servicer.py", "def f():" + "\n x = 1" * 12),
]


def _module(path: str, source: str) -> Module:
    name = path.partition("/")[2].removesuffix(".py").replace("/", ".")
    return Module(name, path, source)


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_a_rule_finds_its_offender(rule, path, source):
    assert list(rule(_module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_a_rule_leaves_the_rest_alone(rule, path, source):
    assert not list(rule(_module(path, source)))
