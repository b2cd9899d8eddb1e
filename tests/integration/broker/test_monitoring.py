"""deploy/monitoring: its rules and panels use metrics and labels that there are, and the pages explain each alert."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .test_metrics_page import documented

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
PANELS = DASHBOARD["panels"]
EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES),
    *(pytest.param(panel["targets"][0]["expr"], id=panel["title"]) for panel in PANELS),
]
# Prometheus' own labels and metric.
KNOWN = {"up": {"job", "instance"}}
HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def labels() -> dict[str, set[str]]:
    """The labels of each metric that the page /metrics has: test_metrics_page compares that page with the docs."""
    found = dict(KNOWN)
    for name, (kind, given, _) in documented().items():
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + part: {*given, *(["le"] if part == "_bucket" else [])} for part in parts}
    return found


def metrics(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:pg_envelope_\w+|up)\b", expression))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_uses_metrics_and_labels_that_there_are(expression: str) -> None:
    known = labels()
    assert metrics(expression)
    assert metrics(expression) <= known.keys()
    for name, matchers in re.findall(r"\b(pg_envelope_\w+|up)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= known[name]
    grouped = {label for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.findall(r"\w+", by)}
    assert all(grouped <= known[name] for name in metrics(expression))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_counter_is_used_by_its_increase(expression: str) -> None:
    """Or as a line that is new: an increase does not have its first count."""
    expression = re.sub(r"\b(\w+)\s+unless \1 offset 10m\b", "", expression)
    for name in metrics(expression):
        if name.endswith(("_total", "_bucket")):
            assert len(re.findall(name, expression)) == len(re.findall(rf"(?:rate|increase)\({name}\b", expression))


def test_what_an_alert_waits_for_is_there_before_it_happens(broker) -> None:
    """Prometheus sees no increase in a line that begins with its first count. The alert of reads finds new ones."""
    page = broker.page("/metrics")
    watched = {name for rule in RULES for name in re.findall(r"increase\((\w+)", rule["expr"])}
    for name in watched - {"pg_envelope_values_decrypted_total"}:
        assert re.search(rf"^{name}(\{{.*\}})? 0$", page, re.MULTILINE), name
    assert 'pg_envelope_requests_total{op="refused",outcome="ok"} 0' in page


def test_unusual_reads_are_values_also_of_a_column_without_a_history() -> None:
    """A thief's only SELECT is one read of many values. A comparison with a line that is not there gives nothing."""
    (rule,) = (rule for rule in RULES if rule["alert"] == "PgEnvelopeUnusualReads")
    name = "pg_envelope_values_decrypted_total"
    expression = " ".join(rule["expr"].split())
    assert metrics(expression) == {name}
    by = "sum by (database, column)"
    before, now = f"{by} (increase({name}[1d] offset 10m)) / 144", f"{by} (increase({name}[10m]))"
    assert f"( {before} or 0 * {now})" in expression
    assert expression.endswith(f" or {by} ({name} unless {name} offset 10m) > 1000")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_explained(rule) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    page, anchor = rule["annotations"]["page"].split("#")
    sections = dict(re.findall(r"^### (\w+)\n\n(\w+)\.", (ROOT / page).read_text(), re.MULTILINE))
    assert anchor == rule["alert"].lower()
    assert sections[rule["alert"]].lower() == rule["labels"]["severity"]


def test_the_page_explains_no_other_alert() -> None:
    explained = re.findall(r"^### (\w+)$", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    assert explained == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_text_names_labels_that_its_expression_has(rule) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    known = labels()
    assert all(named <= known[name] for name in metrics(rule["expr"]))


def test_panels_do_not_overlap() -> None:
    taken = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in PANELS
        for x, y in itertools.product(range(panel["gridPos"]["w"]), range(panel["gridPos"]["h"]))
    ]
    assert len(taken) == len(set(taken))
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert max(x for x, _ in taken) < 24


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_promtool_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", FOLDER / "alerts.yml"], check=True, capture_output=True)
