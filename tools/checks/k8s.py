"""`make k8s-check`: overlays and Helm chart, rendered for real, against schemas and policies."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tools.checks.k8s_policy import Overlay, allowed, violations
from tools.checks.programs import helm, kubectl, npm
from tools.checks.report import REPO, CheckFailed, Report, main, run
from tools.helm_chart import write_chart

K8S = REPO / "k8s"
KUBERNETES = ("1.29", "1.33", "1.37")
CUSTOM = ("keda.sh/v1alpha1", "cert-manager.io/v1")


def overlays() -> list[str]:
    """Names of the overlays."""
    return sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))


def check(report: Report) -> None:
    """Base, overlays, components, chart."""
    program = kubectl()
    rendered = {name: render(program, K8S / "overlays" / name) for name in overlays()}
    base = render(program, K8S / "base")
    report.ok(f"kustomize renders base ({len(base)} objects)")
    used = "".join(path.read_text("utf-8") for path in K8S.glob("overlays/*/*.yaml"))
    for component in sorted(path.parent.name for path in K8S.glob("components/*/*ization.yaml")):
        nested = component == "tls-files"  # tls-cert-manager and k3s-edge use it
        if not nested and f"components/{component}\n" not in used:
            raise CheckFailed(f"no overlay uses the component {component}")
    with tempfile.TemporaryDirectory(prefix="hola-k8s-") as name:
        folder = Path(name)
        for file in (REPO / "tools/checks/crds").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        npm(report, folder)
        for overlay, objects in {"base": base, **rendered}.items():
            fits(report, folder, overlay, objects)
        chart(report, folder, rendered)


def render(program: Path, folder: Path) -> list[dict[str, Any]]:
    """What kustomize makes of a folder."""
    return objects_of(run([program, "kustomize", folder]))


def objects_of(text: str) -> list[dict[str, Any]]:
    """The objects of a YAML stream."""
    return [item for item in yaml.safe_load_all(text) if item]


def fits(report: Report, folder: Path, name: str, objects: list[dict[str, Any]]) -> None:
    """Schemas of Kubernetes, KEDA and cert-manager; then our own rules."""
    kinds: dict[str, int] = {}
    for item in objects:
        kinds[item["kind"]] = kinds.get(item["kind"], 0) + 1
    report.ok(f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    core = [item for item in objects if item["apiVersion"] not in CUSTOM]
    for version in KUBERNETES:
        for item in core:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = f"{item['kind']} {item['metadata']['name']}"
                raise CheckFailed(f"{name}: {where}, Kubernetes {version}: {error}") from None
    report.ok(f"{name}: {len(core)} objects fit Kubernetes {', '.join(KUBERNETES)}")
    custom = [item for item in objects if item["apiVersion"] in CUSTOM]
    if custom:
        said = run(["node", "validate.mjs"], cwd=folder, stdin=json.dumps(custom)).splitlines()
        report.expect(len(said) == len(custom), f"{name}: the schemas take {', '.join(said)}")
    overlay = Overlay(tuple(objects))
    wrong = list(violations(overlay))
    report.expect(not wrong, f"{name}: obeys every policy {wrong or ''}".strip())
    ways = sorted(set(allowed(overlay, "ingress")))
    if ways:
        text = ", ".join(f"{client} to {server}:{port}" for client, server, port in ways)
        report.ok(f"{name}: pods may reach each other only so: {text}")


def chart(report: Report, folder: Path, rendered: dict[str, list[dict[str, Any]]]) -> None:
    """The chart is good, gives exactly what kustomize gives, and takes a registry and a tag."""
    program = helm()
    place = write_chart(folder / "chart", rendered)
    run([program, "lint", "--strict", place])
    report.ok(f"helm lint --strict: {place.name}")
    for profile, objects in rendered.items():
        command = [program, "template", "hola", place, "--set", f"profile={profile}"]
        same = keyed(objects_of(run(command))) == keyed(objects)
        report.expect(same, f"helm template, profile {profile}: equal to the overlay")
        other = [*command, "--set", "registry=registry.example/team/", "--set", "tag=9.9.9"]
        images = {
            container["image"]
            for _, _, template in Overlay(tuple(objects_of(run(other)))).workloads()
            for part in ("containers", "initContainers")
            for container in template["spec"].get(part, ())
            if "hola-" in container["image"]
        }
        moved = all(
            image.startswith("registry.example/team/hola-") and image.endswith(":9.9.9")
            for image in images
        )
        report.expect(images and moved, f"profile {profile}: registry and tag can be set")


def keyed(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name: order says nothing."""
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


if __name__ == "__main__":
    main("k8s-check", check)
