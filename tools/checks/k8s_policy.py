"""What every rendered overlay must obey, as pure functions from its objects to what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hola.bus.streams import GROUP, Keys
from hola.config import load_settings
from hola.errors import ConfigError

Object = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
NAME = "app.kubernetes.io/name"
OURS = ("router", "drafter", "verifier", "compressor")
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """The objects of one rendered overlay."""

    objects: tuple[Object, ...]

    def kind(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object | None:
        """One object, or None."""
        found = [item for item in self.kind(kind) if item["metadata"]["name"] == name]
        return found[0] if found else None

    def workloads(self) -> Iterator[tuple[str, Object, Object]]:
        """Name, object and pod of everything that runs pods."""
        for item in self.kind(*WORKLOADS):
            yield item["metadata"]["name"], item, item["spec"]["template"]

    def environment(self, container: Object) -> dict[str, str]:
        """What a container sees, config maps included; a field's value is a stand-in."""
        values: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            values |= (self.named("ConfigMap", source["configMapRef"]["name"]) or {})["data"]
        for entry in container.get("env", ()):
            text = entry.get("value", "10.0.0.1")
            values[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], text)
        return values


def violations(overlay: Overlay) -> Iterator[str]:
    """Everything that is wrong; nothing when all is well."""
    for name, item, template in overlay.workloads():
        yield from pod_is_locked(name, template["spec"])
        for container in template["spec"]["containers"]:
            yield from container_is_watched(name, container)
        if name.partition("-")[0] in OURS:
            yield from settings_hold(overlay, name, template["spec"])
        rollout = item["spec"].get("strategy", {}).get("rollingUpdate", {})
        if item["kind"] == "Deployment" and rollout.get("maxUnavailable") != 0:
            yield f"{name}: a rollout may take replicas away (maxUnavailable)"
    yield from services_fit(overlay)
    yield from budgets_fit(overlay)
    yield from scalers_fit(overlay)
    if overlay.kind("NetworkPolicy"):
        yield from policies_follow_the_call_graph(overlay)


def pod_is_locked(name: str, pod: Object) -> Iterator[str]:
    """Not root, no token, nothing of the host; and the same for each of its containers."""
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield f"{name}: may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{name}: has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False or not pod.get("serviceAccountName"):
        yield f"{name}: gets a service account's token"
    if pod.get("enableServiceLinks") is not False:
        yield f"{name}: gets variables of service links"
    if any("hostPath" in volume for volume in pod.get("volumes", ())) or pod.get("hostNetwork"):
        yield f"{name}: reaches into its host"
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        yield from container_is_locked(f"{name}/{container['name']}", container)


def container_is_locked(where: str, container: Object) -> Iterator[str]:
    """No privilege, bounded resources, an image with a version."""
    if container.get("securityContext") != LOCKED:
        yield f"{where}: securityContext is not {LOCKED}"
    for bound in ("requests", "limits"):
        if not {"cpu", "memory"} <= container.get("resources", {}).get(bound, {}).keys():
            yield f"{where}: has no {bound} for cpu and memory"
    image = container["image"]
    if "@sha256:" not in image and not re.search(r":(?!latest$)[\w.-]+$", image):
        yield f"{where}: image {image} has no version"


def container_is_watched(name: str, container: Object) -> Iterator[str]:
    """All three probes, and names for all ports; ours are asked on the plaintext health port."""
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            yield f"{name}: has no {probe}"
        elif name.partition("-")[0] in OURS and container[probe].get("grpc") != {"port": 7080}:
            yield f"{name}: {probe} does not ask the health port"
    for port in container.get("ports", ()):
        if not port.get("name"):
            yield f"{name}: port {port['containerPort']} has no name"


def settings_hold(overlay: Overlay, name: str, pod: Object) -> Iterator[str]:
    """The settings load, memory fits, a pod has time to drain, and TLS or no TLS is said."""
    (container,) = pod["containers"]
    environment = overlay.environment(container)
    try:
        settings = load_settings(environment)
    except ConfigError as error:
        yield f"{name}: {error.message}"
        return
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    if pod["terminationGracePeriodSeconds"] <= pause + settings.drain_s:
        yield f"{name}: is killed before it has drained"
    limit = container["resources"]["limits"]["memory"]
    if settings.memory_budget_mb >= mebibytes(limit):
        yield f"{name}: HOLA_MEMORY_BUDGET_MB does not fit the limit {limit}"
    if bool(settings.tls_cert) == settings.insecure:
        yield f"{name}: neither TLS nor HOLA_INSECURE, or both"
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    files = (settings.tls_cert, settings.bus_password_file, settings.api_keys)
    for file in filter(None, files):
        if file.rpartition("/")[0] not in mounts:
            yield f"{name}: {file} is not mounted"
    declared = {volume["name"] for volume in pod["volumes"]}
    if not set(mounts.values()) <= declared:
        yield f"{name}: mounts what is no volume"


def mebibytes(size: str) -> int:
    """A Kubernetes memory size, in MiB."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", size).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def services_fit(overlay: Overlay) -> Iterator[str]:
    """Each Service has a workload behind it, and names ports that this has."""
    for service in overlay.kind("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        behind = list(selected(overlay, spec["selector"]))
        if not behind:
            yield f"service {name}: nothing is behind it"
        for port in spec["ports"]:
            if not port.get("name"):
                yield f"service {name}: port {port['port']} has no name"
            for workload, template in behind:
                ports = template["spec"]["containers"][0]["ports"]
                if port["targetPort"] not in {item.get("name") for item in ports}:
                    yield f"service {name}: {workload} has no port {port['targetPort']}"
    verifier = overlay.named("Service", "verifier")
    if verifier is None or verifier["spec"].get("clusterIP") != "None":
        yield "service verifier: is not headless"


def selected(overlay: Overlay, labels: Mapping[str, str]) -> Iterator[tuple[str, Object]]:
    """Workloads whose pods have these labels."""
    for name, _, template in overlay.workloads():
        if labels.items() <= template["metadata"]["labels"].items():
            yield name, template


def budgets_fit(overlay: Overlay) -> Iterator[str]:
    """A disruption budget leaves room for a drain, whatever runs."""
    for budget in overlay.kind("PodDisruptionBudget"):
        name = budget["metadata"]["name"]
        workload = overlay.named("Deployment", name)
        scaler = [
            item
            for item in overlay.kind("HorizontalPodAutoscaler")
            if item["spec"]["scaleTargetRef"]["name"] == name
        ]
        replicas = (workload or {"spec": {}})["spec"].get("replicas")
        least = replicas if replicas is not None else scaler and scaler[0]["spec"]["minReplicas"]
        if not least or least <= budget["spec"]["minAvailable"]:
            yield f"budget {name}: a node can never be drained"


def scalers_fit(overlay: Overlay) -> Iterator[str]:
    """Scalers own the number of replicas, of something that is there, and never end it."""
    for scaler in overlay.kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        name = scaler["metadata"]["name"]
        workload = overlay.named(target["kind"], target["name"])
        if workload is None:
            yield f"scaler {name}: scales nothing"
        elif "replicas" in workload["spec"]:
            yield f"scaler {name}: quarrels with replicas of {target['name']}"
        if scaler["kind"] == "ScaledObject":
            yield from queue_is_seen(name, scaler["spec"])


def queue_is_seen(name: str, spec: Object) -> Iterator[str]:
    """A scaler by what waits on Redis: keys that exist, every tenant's jobs, never down to none."""
    keys = Keys()
    everybody = {keys.queued, keys.compression.queued}
    watched = set()
    for trigger in spec["triggers"]:
        metadata = trigger["metadata"]
        key = metadata.get("stream") or metadata.get("listName")
        watched.add(key)
        if key not in everybody | {keys.queue("default")}:
            yield f"scaler {name}: watches a key that is not ours: {metadata}"
        if trigger["type"] == "redis-streams" and metadata["consumerGroup"] != GROUP:
            yield f"scaler {name}: watches a group that is not ours"
    if not watched & everybody:
        yield f"scaler {name}: sees one tenant's jobs only"
    # What is not set is 0 for KEDA.
    if not spec.get("minReplicaCount"):
        yield f"scaler {name}: may end the last one, and with it who takes calls"


def policies_follow_the_call_graph(overlay: Overlay) -> Iterator[str]:
    """Everything is denied; what clients' settings name is allowed, at both ends, and no more."""
    everything = [
        policy["spec"]["policyTypes"]
        for policy in overlay.kind("NetworkPolicy")
        if policy["spec"]["podSelector"] == {} and not {"ingress", "egress"} & policy["spec"].keys()
    ]
    if ["Ingress", "Egress"] not in everything:
        yield "network: not everything is denied first"
    wanted = set(edges(overlay))
    out, into = set(allowed(overlay, "egress")), set(allowed(overlay, "ingress"))
    for client, server, port in sorted(wanted):
        if (client, server, port) not in out:
            yield f"network: {client} may not call {server}:{port}"
        if (client, server, port) not in into:
            yield f"network: {server}:{port} does not let {client} in"
    for client, server, port in sorted((out | into) - wanted):
        yield f"network: {client} to {server}:{port} is open, and nothing uses it"
    names = {name for server in overlay.kind("Service") for name in [server["metadata"]["name"]]}
    open_doors = {server for _, server, _ in into} | set(public(overlay))
    for name in sorted(names - open_doors - {"drafter", "compressor"}):
        yield f"network: service {name} has no policy that lets anybody in"


def edges(overlay: Overlay) -> Iterator[tuple[str, str, int]]:
    """(client, server, port) for every address of a service of ours in somebody's settings."""
    for _, _, template in overlay.workloads():
        client = template["metadata"]["labels"][NAME]
        if client not in OURS:
            continue
        environment = overlay.environment(template["spec"]["containers"][0])
        for variable in ("HOLA_BUS", "HOLA_VERIFIER", "HOLA_STORE"):
            url = environment.get(variable, "")
            found = re.search(r"//(?:/|\w+@)?([a-z]+):(\d+)", url)
            if found:
                yield client, found[1], int(found[2])
            if grpc := re.search(r"\?grpc=(\d+)", url):
                yield client, found[1], int(grpc[1])  # type: ignore[index]


def allowed(overlay: Overlay, way: str) -> Iterator[tuple[str, str, int]]:
    """(client, server, port) between pods that policies of one direction let through."""
    peers = "to" if way == "egress" else "from"
    for policy in overlay.kind("NetworkPolicy"):
        here = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        for rule in policy["spec"].get(way, ()):
            for peer in rule.get(peers, ()):
                there = peer.get("podSelector", {}).get("matchLabels", {}).get(NAME)
                for port in rule["ports"]:
                    if here and there:
                        pair = (here, there) if way == "egress" else (there, here)
                        yield (*pair, port["port"])


def public(overlay: Overlay) -> Iterator[str]:
    """Pods that somebody outside of the call graph may reach on the port that they serve on."""
    for policy in overlay.kind("NetworkPolicy"):
        here = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        for rule in policy["spec"].get("ingress", ()):
            if here and "from" not in rule:
                yield here
