"""docs/metrics.md and the page /metrics: the same metrics, with the types, labels and texts that the docs give."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs/metrics.md"
ROW = re.compile(r"\| `(pg_envelope_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \|")
ENDS = {"counter": "_total", "histogram": "_seconds"}


def documented():
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in ROW.findall(DOCS.read_text())
    }


def test_every_metric_is_documented_with_type_and_help(broker):
    page = broker.page("/metrics")
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    types = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
    assert {name: (kind, text) for name, (kind, _, text) in documented().items()} == {
        name: (types[name], text) for name, text in helps.items()
    }


def test_labels_are_those_of_the_docs(broker):
    database, dek = broker.new_dek()
    broker.derive(database, dek)
    broker.good("schedule", overdue=1, oldest=[{"level": "dek", "since": 1}])
    broker.good("spend", field=str(uuid.uuid4()), user="u", rows=1, seconds=60, refuses=False, wanted=2)
    docs, seen = documented(), set()
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", broker.page("/metrics"), re.MULTILINE):
        plain = re.sub(r"_(bucket|sum|count)$", "", name)
        found = tuple(one for one in re.findall(r'(\w+)="', labels) if one != "le")
        assert found == docs[plain][1], name
        seen.add(plain)
    only_then = {
        "pg_envelope_reads_total": "an audited column was read",
        "pg_envelope_values_decrypted_total": "an audited column was read",
        "pg_envelope_grace_remaining_seconds": "a KMS is down",
        "pg_envelope_application_connections": "a door",
    }
    assert set(docs) - seen == set(only_then)


def test_names_are_as_prometheus_wants_them():
    for name, (kind, _, text) in documented().items():
        assert name.endswith(ENDS.get(kind, "")), name
        assert kind != "gauge" or not name.endswith("_total")
        assert text.endswith(".")
