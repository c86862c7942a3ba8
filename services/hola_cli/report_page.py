"""A compression report as one HTML file that needs no other file and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from hola.compression.job import ArtifactInfo
from hola.compression.report import Report
from hola_cli.report_plots import MIB, plots

_TITLES = {
    "pareto": "Size against damage",
    "bits": "Bits per tensor",
    "passes": "What each pass did",
    "tasks": "Tasks before and after",
    "draft": "As a draft",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ info.model }}/{{ info.tier }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem } .dim { color: #666 }
table { border-collapse: collapse; margin: .8rem 0 } th, td { padding: .25rem .8rem;
  border-bottom: 1px solid #ddd; text-align: right } th:first-child, td:first-child
  { text-align: left } img { max-width: 100% } code { font-size: 12px; word-break: break-all }
.cards { display: flex; flex-wrap: wrap; gap: .8rem } .card { border: 1px solid #ddd;
  border-radius: 8px; padding: .6rem 1rem; min-width: 8rem } .card b { font-size: 1.35rem;
  display: block } .bad { color: #b00 } details { margin: .8rem 0 } pre { background: #f6f6f6;
  padding: .8rem; overflow-x: auto; font-size: 12px }
</style></head><body>
<h1>{{ info.model }}/{{ info.tier }}</h1>
<p class="dim">compressed from {{ info.source or report.source }},
licence {{ info.license or "unknown" }}</p>
<div class="cards">
<div class="card"><b>{{ mib(report.bytes) }} MiB</b>was {{ mib(report.original_bytes) }} MiB</div>
<div class="card"><b>{{ "%.2f"|format(report.bits_per_weight) }}</b>bits per weight</div>
{% if report.budget_bytes %}<div class="card"><b>{{ mib(report.budget_bytes) }} MiB</b>budget</div>
{% endif %}
{% for row in report.quality[:1] %}
<div class="card"><b>{{ number(row.kld_mean) }}</b>KL, nats/token</div>
<div class="card"><b>{{ number(row.perplexity) }}</b>perplexity,
was {{ number(row.original_perplexity) }}</div>
<div class="card"><b>{{ percent(row.top1_agreement) }}</b>same first choice</div>
{% endfor %}
{% if report.exactness %}<div class="card"><b{% if not report.exactness.exact %} class="bad"
{% endif %}>{{ "exact" if report.exactness.exact else "not exact" }}</b>numerics probe</div>
{% endif %}
</div>
{% for name, data in pictures.items() %}
<h2>{{ titles[name] }}</h2>
<img alt="{{ titles[name] }}" src="data:image/png;base64,{{ data }}">
{% endfor %}
{% if report.quality %}<h2>Quality</h2>
<table><tr><th>text</th><th>tokens</th><th>perplexity</th><th>original's</th><th>KL mean</th>
<th>KL p99</th><th>same first choice</th></tr>
{% for row in report.quality %}<tr><td>{{ row.text }}</td><td>{{ row.tokens }}</td>
<td>{{ number(row.perplexity) }}</td><td>{{ number(row.original_perplexity) }}</td>
<td>{{ number(row.kld_mean) }}</td><td>{{ number(row.kld_p99) }}</td>
<td>{{ percent(row.top1_agreement) }}</td></tr>{% endfor %}</table>{% endif %}
{% if report.speed %}<h2>Speed</h2>
<table><tr><th></th><th>original</th><th>compressed</th><th>ratio</th></tr>
<tr><td>prefill, tokens/s</td><td>{{ number(report.speed.original_prefill_tokens_per_s) }}</td>
<td>{{ number(report.speed.prefill_tokens_per_s) }}</td><td>{{ ratio(
report.speed.prefill_tokens_per_s, report.speed.original_prefill_tokens_per_s) }}</td></tr>
<tr><td>decode, tokens/s</td><td>{{ number(report.speed.original_decode_tokens_per_s) }}</td>
<td>{{ number(report.speed.decode_tokens_per_s) }}</td><td>{{ ratio(
report.speed.decode_tokens_per_s, report.speed.original_decode_tokens_per_s) }}</td></tr>
{% if report.speed.peak_bytes %}<tr><td>peak memory of its process, MiB</td>
<td>{{ mib(report.speed.original_peak_bytes) }}</td><td>{{ mib(report.speed.peak_bytes) }}</td>
<td>{{ ratio(report.speed.peak_bytes, report.speed.original_peak_bytes) }}</td></tr>{% endif %}
</table>
{% if report.speed.resident_bytes %}<p>The weights take {{ mib(report.speed.resident_bytes) }} MiB
in memory.</p>{% endif %}{% endif %}
{% if report.passes %}<h2>Passes</h2>
<table><tr><th>pass</th><th>KL after it</th><th>kept</th><th>note</th></tr>
{% for row in report.passes %}<tr><td>{{ row.name }}</td>
<td>{{ number(row.kld_mean) }}</td><td>{{ "yes" if row.kept else "no" }}</td>
<td>{{ row.note }}</td></tr>{% endfor %}</table>{% endif %}
{% if report.tensors %}<details><summary>All {{ report.tensors|length }} tensors</summary>
<table><tr><th>tensor</th><th>shape</th><th>bits</th><th>block</th><th>zero points</th>
<th>bytes</th><th>damage alone</th></tr>
{% for row in report.tensors %}<tr><td>{{ row.name }}</td>
<td>{{ row.rows }} x {{ row.columns }}</td>
<td>{{ row.bits }}</td><td>{{ row.block }}</td><td>{{ "no" if row.symmetric else "yes" }}</td>
<td>{{ row.bytes }}</td><td>{{ number(row.damage) }}</td></tr>{% endfor %}</table></details>
{% endif %}
<h2>Identity</h2>
<table>
<tr><td>artifact, sha256 over its files</td><td><code>{{ info.digest }}</code></td></tr>
<tr><td>source, sha256 over its files</td><td><code>{{ info.source_sha256 }}</code></td></tr>
<tr><td>calibration text, sha256</td><td><code>{{ report.calibration_sha256 }}</code></td></tr>
<tr><td>tokenizer fingerprint</td><td><code>{{ report.tokenizer_fingerprint }}</code></td></tr>
{% if report.exactness %}<tr><td>numerics fingerprint</td>
<td><code>{{ report.exactness.fingerprint }}</code>{{ report.exactness.reason }}</td></tr>
<tr><td>largest difference to the simulation</td>
<td>{{ number(report.exactness.max_logit_error) }}
(allowed {{ number(report.exactness.tolerance) }})</td></tr>{% endif %}
</table>
<details><summary>Plan</summary><pre>{{ plan }}</pre></details>
</body></html>
"""


def write_pages(folder: Path, info: ArtifactInfo, report: Report) -> list[Path]:
    """report.html, report.json and a PNG per picture in `folder`. Raises MissingExtra, OSError."""
    pictures = plots(report)
    files = {
        "report.html": page(info, report, pictures).encode(),
        "report.json": (json.dumps(report.document(), indent=1) + "\n").encode(),
        **{f"{name}.png": data for name, data in pictures.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def page(info: ArtifactInfo, report: Report, pictures: Mapping[str, bytes]) -> str:
    """The HTML text; every value in it is escaped."""
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    return template.render(
        info=info,
        report=report,
        titles=_TITLES,
        pictures={name: base64.b64encode(data).decode() for name, data in pictures.items()},
        plan=json.dumps(dict(report.plan), indent=1, sort_keys=True),
        mib=lambda size: f"{size / MIB:.1f}",
        number=lambda value: "-" if value is None else f"{value:.4g}",
        percent=lambda value: "-" if value is None else f"{100 * value:.1f} %",
        ratio=lambda new, old: f"{new / old:.2f}" if new and old else "-",
    )
