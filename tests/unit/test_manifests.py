"""The compose file, the image and the Kubernetes base: settings exist, pods are locked down."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from hola import __version__
from hola.config import DEFAULT_LISTEN, Settings, load_settings

REPO = Path(__file__).resolve().parents[2]
BASE = REPO / "k8s/base"
KUBERNETES = ("1.29", "1.33", "1.37")
WORKLOADS = {"Deployment", "StatefulSet"}
SCRIPTS = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
COMPOSE = yaml.safe_load((REPO / "docker-compose.yml").read_text("utf-8"))
OURS = sorted(set(COMPOSE["services"]) - {"redis"})


@cache
def kustomization() -> dict[str, Any]:
    return yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))


@cache
def objects() -> list[dict[str, Any]]:
    texts = [(BASE / name).read_text("utf-8") for name in kustomization()["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in objects() if o["kind"] in kinds}


def pods() -> dict[str, dict[str, Any]]:
    return {name: o["spec"]["template"]["spec"] for name, o in of_kind(*WORKLOADS).items()}


def environment(name: str) -> dict[str, str]:
    """What the service's container sees: the shared ConfigMap, then its own values."""
    (container,) = pods()[name]["containers"]
    config = of_kind("ConfigMap")["hola"]["data"]
    assert container["envFrom"] == [{"configMapRef": {"name": "hola"}}]
    return config | {entry["name"]: entry["value"] for entry in container["env"]}


def test_every_file_is_in_the_kustomization():
    listed = {"kustomization.yaml", *kustomization()["resources"]}
    assert {path.name for path in BASE.iterdir()} == listed


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_the_schema(version):
    assert objects()
    for document in objects():
        kubernetes_validate.validate(document, version, strict=True)


def test_there_is_a_deployment_and_a_service_for_each_of_ours():
    assert set(OURS) == set(DEFAULT_LISTEN) == set(of_kind("Deployment"))
    assert set(OURS) | {"redis"} == set(of_kind("Service")) == set(of_kind("ServiceAccount"))


@pytest.mark.parametrize("name", [*OURS, "redis"])
def test_a_pod_is_locked_down(name):
    pod = pods()[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["serviceAccountName"] == name
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    for size in container["resources"].values():
        assert size.keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", OURS)
def test_no_service_link_becomes_an_unknown_setting(name):
    assert pods()[name]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", OURS)
def test_probes_ask_the_health_port_and_clients_the_other(name):
    (container,) = pods()[name]["containers"]
    port = int(DEFAULT_LISTEN[name].rpartition(":")[2])
    assert environment(name)["HOLA_LISTEN"] == f"0.0.0.0:{port}"
    health = int(environment(name)["HOLA_HEALTH_LISTEN"].removeprefix("0.0.0.0:"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": health}
    assert {"name": "health", "containerPort": health} in container["ports"]
    assert {"name": "grpc", "containerPort": port} in container["ports"]
    (exposed,) = of_kind("Service")[name]["spec"]["ports"]
    assert exposed["port"] == port


@pytest.mark.parametrize("name", OURS)
def test_the_health_check_of_a_container_is_its_own(name):
    settings = load_settings(COMPOSE["services"][name]["environment"])
    assert settings.health_listen == "127.0.0.1:7080"


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_pod_are_known_and_valid(name):
    settings = load_settings(environment(name))
    reachable(settings, {o: v["spec"]["ports"][0]["port"] for o, v in of_kind("Service").items()})
    assert pods()[name]["terminationGracePeriodSeconds"] > settings.drain_s


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_compose_service_are_known_and_valid(name):
    settings = load_settings(COMPOSE["services"][name]["environment"])
    ports = {s: int(a.rpartition(":")[2]) for s, a in DEFAULT_LISTEN.items()}
    reachable(settings, ports | {"redis": 6379})
    assert settings.listen == f"0.0.0.0:{ports[name]}"
    assert int(COMPOSE["services"][name]["stop_grace_period"].rstrip("s")) > settings.drain_s


def reachable(settings: Settings, ports: dict[str, int]) -> None:
    """Bus and verifier name a service of ours on the port it has, or are left at their default."""
    for url in (settings.bus, settings.verifier):
        host, port = re.fullmatch(r"\w+://([\w.]+):(\d+)(?:/\d+)?", url).groups()
        assert host == "127.0.0.1" or ports[host] == int(port)


@pytest.mark.parametrize("name", OURS)
def test_the_memory_budget_fits_the_limit(name):
    compose = COMPOSE["services"][name]
    budget = load_settings(compose["environment"]).memory_budget_mb
    assert budget < mebibytes(compose["mem_limit"])
    (container,) = pods()[name]["containers"]
    budget = load_settings(environment(name)).memory_budget_mb
    assert budget < mebibytes(container["resources"]["limits"]["memory"])


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mMgG])i?", size).groups()
    return int(number) * {"m": 1, "g": 1024}[unit.lower()]


@pytest.mark.parametrize("name", OURS)
def test_containers_run_our_scripts_at_our_version(name):
    compose = COMPOSE["services"][name]
    (container,) = pods()[name]["containers"]
    assert compose["command"] == container["command"] == [f"hola-{name}"]
    assert f"hola-{name}" in SCRIPTS
    assert compose["image"] == f"{container['image']}:{__version__}"
    assert kustomization()["images"] == [{"name": container["image"], "newTag": __version__}]
    assert compose["read_only"] is True
    assert compose["cap_drop"] == ["ALL"]


def test_redis_never_evicts_and_keeps_its_log():
    (container,) = pods()["redis"]["containers"]
    for words in (COMPOSE["services"]["redis"]["command"], container["args"]):
        options = " ".join(words)
        assert "--maxmemory-policy noeviction" in options
        assert "--appendonly yes" in options
    assert COMPOSE["services"]["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]


def test_only_the_router_is_published_and_only_on_loopback():
    published = {n: s["ports"] for n, s in COMPOSE["services"].items() if "ports" in s}
    assert published == {"router": ["127.0.0.1:7070:7070"]}


def test_the_verifier_is_headless_and_survives_a_drain():
    assert of_kind("Service")["verifier"]["spec"]["clusterIP"] == "None"
    budget = of_kind("PodDisruptionBudget")["verifier"]["spec"]
    assert of_kind("Deployment")["verifier"]["spec"]["replicas"] > budget["minAvailable"]


def test_the_image_is_not_run_by_root_and_has_both_targets():
    text = (REPO / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"^FROM runtime AS (\w+)$", text, re.MULTILINE)) == {"edge", "full"}
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK", text, re.MULTILINE)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
    for named in re.findall(r"^ARG EXTRAS=(.+)$", text, re.MULTILINE):
        assert set(named.split(",")) <= set(extras["optional-dependencies"])
