"""Writes the Helm chart out of the kustomize overlays, the one source of what is deployed.

python -m tools.helm_chart FOLDER      # what `make chart` runs
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hola import __version__

REPO = Path(__file__).resolve().parents[1]
_OURS = re.compile(r"^(\s*-? *image: )(hola-[a-z-]+):([\w.]+)$", re.MULTILINE)


def write_chart(folder: Path, rendered: Mapping[str, Sequence[dict[str, Any]]]) -> Path:
    """A chart with one template for each overlay, chosen by `profile`; its folder.

    `rendered` holds the objects of each overlay. Images take `registry` and `tag` of the values;
    everything else is as kustomize has it.
    """
    place = folder / "hola"
    (place / "templates").mkdir(parents=True, exist_ok=True)
    values = {"profile": "k3s-edge", "registry": "", "tag": __version__}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "profile": {"enum": sorted(rendered)},
            "registry": {"type": "string"},
            "tag": {"type": "string", "minLength": 1},
            "global": {"type": "object"},
        },
    }
    facts = {
        "apiVersion": "v2",
        "name": "hola",
        "description": "Exact speculative decoding for language models on edge devices",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
    }
    (place / "Chart.yaml").write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    (place / "values.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    (place / "values.schema.json").write_text(json.dumps(schema, indent=1), encoding="utf-8")
    for profile, objects in rendered.items():
        text = template(profile, objects)
        (place / "templates" / f"{profile}.yaml").write_text(text, encoding="utf-8")
    return place


def template(profile: str, objects: Sequence[dict[str, Any]]) -> str:
    """The objects as a template that is empty for other profiles."""
    text = yaml.safe_dump_all(objects, sort_keys=False, width=1000)
    if "{{" in text:
        raise ValueError("an object holds what Helm would read as a template")
    text = _OURS.sub(r"\1{{ $.Values.registry }}\2:{{ $.Values.tag }}", text)
    return f'{{{{- if eq .Values.profile "{profile}" }}}}\n{text}{{{{- end }}}}\n'


def main() -> None:
    """Render the overlays and write the chart into the folder named on the command line."""
    from tools.checks.k8s import K8S, overlays, render
    from tools.checks.programs import kubectl

    program = kubectl()
    rendered = {name: render(program, K8S / "overlays" / name) for name in overlays()}
    print(write_chart(Path(sys.argv[1]), rendered))


if __name__ == "__main__":
    main()
