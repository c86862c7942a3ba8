"""Compose file, images, Kubernetes manifests: settings exist, containers are locked down."""

from __future__ import annotations

import copy
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from hola import __version__
from hola.config import DEFAULT_LISTEN, load_settings
from tools.checks.compose_file import Loopback, services, start_order, used_ports
from tools.checks.k8s_policy import NAME, Overlay, edges, violations
from tools.lock import IMAGES

REPO = Path(__file__).resolve().parents[2]
BASE = REPO / "k8s/base"
KUBERNETES = ("1.29", "1.33", "1.37")
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
COMPOSE = yaml.safe_load((REPO / "docker-compose.yml").read_text("utf-8"))
OURS = sorted(name for name, one in services().items() if one.ours)
DOCKERFILE = (REPO / "Dockerfile").read_text("utf-8")
TARGETS = set(re.findall(r"^FROM runtime AS ([\w-]+)$", DOCKERFILE, re.MULTILINE))


@cache
def kustomization() -> dict[str, Any]:
    return yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))


def images() -> dict[str, str]:
    """What kustomize makes of the base's image names."""
    found = {}
    for image in kustomization()["images"]:
        digest = image.get("digest")
        end = f"@{digest}" if digest else f":{image['newTag']}"
        found[image["name"]] = image.get("newName", image["name"]) + end
    return found


def base() -> Overlay:
    """The base as kustomize would give it; a fresh copy for each test."""
    texts = [(BASE / name).read_text("utf-8") for name in kustomization()["resources"]]
    overlay = Overlay(tuple(item for text in texts for item in yaml.safe_load_all(text)))
    for _, _, template in overlay.workloads():
        pod = template["spec"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            container["image"] = images()[container["image"]]
    return overlay


# --- Kubernetes


def test_every_file_is_in_a_kustomization():
    for folder in (BASE, *(REPO / "k8s/components").iterdir(), *(REPO / "k8s/overlays").iterdir()):
        document = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
        listed = {name for name in document.get("resources", ()) if not name.startswith("..")}
        there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert there == listed, folder


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_the_schema(version):
    assert base().objects
    for document in base().objects:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_base_obeys_every_policy():
    assert list(violations(base())) == []


def scaled() -> Overlay:
    """The base with its scalers, which own the number of replicas."""
    files = sorted((REPO / "k8s/components/autoscaling").glob("*r.yaml"))
    items = [item for file in files for item in yaml.safe_load_all(file.read_text("utf-8"))]
    overlay = Overlay((*base().objects, *items))
    for scaler in overlay.kind("HorizontalPodAutoscaler", "ScaledObject"):
        del overlay.named("Deployment", scaler["metadata"]["name"])["spec"]["replicas"]
    return overlay


def test_scalers_obey_every_policy():
    assert len(scaled().kind("HorizontalPodAutoscaler", "ScaledObject")) == 4
    assert list(violations(scaled())) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda spec: spec.update(minReplicaCount=0), "may end the last one"),
        (lambda spec: spec.pop("minReplicaCount"), "may end the last one"),
        (
            lambda spec: spec["triggers"][0]["metadata"].update(listName="hola:{jobs}:queue:a"),
            "sees one tenant's jobs only",
        ),
        (
            lambda spec: spec["triggers"][0]["metadata"].update(listName="hola:{compression}:x"),
            "a key that is not ours",
        ),
    ],
)
def test_a_policy_sees_a_scaler_that_leaves_jobs_alone(change, complaint):
    overlay = scaled()
    change(overlay.named("ScaledObject", "compressor")["spec"])
    assert complaint in "\n".join(violations(overlay))


def test_the_call_graph_is_what_settings_say():
    assert set(edges(base())) == {
        ("compressor", "redis", 6379),
        ("drafter", "redis", 6379),
        ("drafter", "verifier", 7072),
        ("router", "redis", 6379),
        ("router", "verifier", 7072),
        ("verifier", "redis", 6379),
    }


def spoil(change) -> str:
    """What the policies say about a base with one thing changed."""
    overlay = Overlay(tuple(copy.deepcopy(base().objects)))
    change(overlay)
    return "\n".join(violations(overlay))


def pod(overlay: Overlay, name: str) -> dict[str, Any]:
    (found,) = (t["spec"] for n, _, t in overlay.workloads() if n == name)
    return found


def container(overlay: Overlay, name: str) -> dict[str, Any]:
    return pod(overlay, name)["containers"][0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda o: pod(o, "router")["securityContext"].pop("runAsNonRoot"), "may run as root"),
        (lambda o: container(o, "redis")["securityContext"].clear(), "securityContext is not"),
        (lambda o: container(o, "router")["resources"]["limits"].pop("cpu"), "no limits"),
        (lambda o: container(o, "router").update(image="hola-router:latest"), "has no version"),
        (lambda o: container(o, "drafter").pop("livenessProbe"), "no livenessProbe"),
        (
            lambda o: container(o, "drafter")["startupProbe"]["grpc"].update(port=7071),
            "health port",
        ),
        (lambda o: container(o, "router")["ports"][0].pop("name"), "port 7070 has no name"),
        (lambda o: container(o, "router")["env"].append({"name": "HOLA_BSU"}), "unknown setting"),
        (lambda o: pod(o, "verifier").update(terminationGracePeriodSeconds=15), "killed before"),
        (lambda o: container(o, "verifier")["volumeMounts"].pop(1), "is not mounted"),
        (
            lambda o: pod(o, "router")["volumes"].append({"name": "x", "hostPath": {}}),
            "reaches into its host",
        ),
        (lambda o: o.named("Service", "verifier")["spec"].pop("clusterIP"), "not headless"),
        (lambda o: o.named("Service", "router")["spec"].update(selector={NAME: "x"}), "nothing is"),
        (
            lambda o: o.named("Deployment", "verifier")["spec"].update(replicas=1),
            "never be drained",
        ),
        (lambda o: o.named("ConfigMap", "hola")["data"].pop("HOLA_INSECURE"), "neither TLS"),
    ],
)
def test_a_policy_sees(change, complaint):
    assert complaint in spoil(change)


# --- images


def test_each_target_of_the_dockerfile_has_its_packages_with_hashes():
    assert {*IMAGES, "models"} == TARGETS
    for name in IMAGES:
        assert f"requirements/install {name} /wheels" in DOCKERFILE
        text = (REPO / f"requirements/{name}.txt").read_text("utf-8")
        pins = re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-z0-9].*\\\n +--hash", text, re.MULTILINE)) > 20


def test_what_images_hold_is_what_was_locked():
    locked = set((REPO / "requirements/lock.txt").read_text("utf-8").splitlines())
    names = {line.partition(" ")[0] for line in locked}
    for name in IMAGES:
        for line in (REPO / f"requirements/{name}.txt").read_text("utf-8").splitlines():
            if "==" in line:
                assert line.partition(" ")[0] in names, f"{name}: {line}: run `make lock`"


@pytest.mark.parametrize("name", ["edge", "router", "verifier-cpu", "verifier-gpu"])
def test_only_the_compressor_has_torch_or_a_hub_client(name):
    text = (REPO / f"requirements/{name}.txt").read_text("utf-8")
    assert not re.search(r"^(torch|transformers|huggingface-hub)==", text, re.MULTILINE)


def test_images_are_not_run_by_root_and_have_a_pinned_base():
    assert re.search(r"^ARG BASE_IMAGE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^USER 10001", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK", DOCKERFILE, re.MULTILINE)
    runtime = DOCKERFILE.partition("AS runtime")[2]
    assert not re.search(r"^RUN", runtime, re.MULTILINE), "nothing runs in a final stage"


def test_manifests_name_our_images_at_our_version():
    ours = {image["name"]: image.get("newTag") for image in kustomization()["images"]}
    assert ours.pop("redis") is None
    assert ours.keys() == {f"hola-{target}" for target in TARGETS - {"verifier-gpu"}}
    assert set(ours.values()) == {__version__}
    for file in (REPO / "k8s").rglob("kustomization.yaml"):
        for image in yaml.safe_load(file.read_text("utf-8")).get("images", ()):
            if image["name"].startswith("hola-"):
                assert image["newTag"] == __version__, file


# --- compose


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_compose_service_are_known_and_valid(name):
    entry = COMPOSE["services"][name]
    settings = load_settings(entry["environment"])
    kind = name.partition("-")[0]
    assert settings.health_listen == "127.0.0.1:7080"
    assert settings.listen == f"0.0.0.0:{DEFAULT_LISTEN[kind].rpartition(':')[2]}"
    assert settings.memory_budget_mb < mebibytes(entry["mem_limit"])
    assert int(entry["stop_grace_period"].rstrip("s")) > settings.drain_s
    assert entry["command"] == [f"hola-{kind}"]
    assert f"hola-{kind}" in PROJECT["scripts"]
    assert entry["image"] == f"hola-{entry['build']['target']}:{__version__}"
    assert entry["build"]["target"] in TARGETS
    models = "./models:/models" if kind == "compressor" else "./models:/models:ro"
    assert models in entry["volumes"]


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mMgG])", size).groups()
    return int(number) * {"m": 1, "g": 1024}[unit.lower()]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_compose_service_is_locked_down_and_bounded(name):
    entry = COMPOSE["services"][name]
    assert entry["read_only"] is True
    assert entry["cap_drop"] == ["ALL"]
    assert entry["security_opt"] == ["no-new-privileges:true"]
    assert entry["restart"] == "unless-stopped"
    assert entry["pids_limit"] > 0
    assert entry["cpus"] > 0
    assert mebibytes(entry["mem_limit"]) > 0
    assert entry["image"].startswith("hola-") or re.search(r"@sha256:|:v?\d+\.\d+", entry["image"])
    assert set(entry.get("secrets", ())) <= COMPOSE["secrets"].keys()
    for volume in entry.get("volumes", ()):
        source = volume.partition(":")[0]
        assert (REPO / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for port in entry.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_compose_starts_what_is_called_before_its_callers():
    order = [one.name for one in start_order(services())]
    assert order[0] == "redis"
    assert order[-1] == "router"
    every = start_order(services("weaviate", "monitoring"))
    for index, one in enumerate(every):
        earlier = every[:index]
        assert set(one.needs) <= {other.name for other in earlier}
        waits = one.entry.get("depends_on", {}).values()
        assert all(wait == {"condition": "service_healthy"} for wait in waits)
        assert one.ours or "healthcheck" in one.entry


def test_redis_never_evicts_keeps_its_log_and_has_users():
    for words in (COMPOSE["services"]["redis"]["command"], container(base(), "redis")["args"]):
        options = " ".join(words)
        assert "--maxmemory-policy noeviction" in options
        assert "--appendonly yes" in options
        assert "--aclfile /run/secrets/" in options


def test_addresses_of_the_compose_file_are_translated_to_loopback():
    ports = {("redis", 6379): 1001, ("verifier-1", 7072): 1002, ("router", 7070): 1003}
    where = Loopback(ports=ports, files={"/models": "/here/models"})
    assert where.text("router", "redis://hola@redis:6379/0") == "redis://hola@127.0.0.1:1001/0"
    both = where.text("drafter-1", "grpc://verifier-1:7072,grpc://other:7072")
    assert both == "grpc://127.0.0.1:1002,grpc://other:7072"
    assert where.text("router", "0.0.0.0:7070") == "127.0.0.1:1003"
    assert where.text("router", "/models") == "/here/models"
    assert set(used_ports(services())) >= {("router", 7070), ("drafter-2", 7080), ("redis", 6379)}
