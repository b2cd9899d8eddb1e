"""The report's clauses, verdicts, comparison and page, and the fact about a real ledger of reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.broker.ledger.read_ledger import ReadLedger
from pg_envelope_client.commands.evidence import _verified
from pg_envelope_client.evidence import clauses, document, facts
from pg_envelope_client.evidence.names import FrameworkName
from pg_envelope_client.evidence.page import page
from pg_envelope_client.problems import Problem

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HOLDS = st.sampled_from([True, False, None])
PLACE = {"database": "shop", "database_uuid": "u", "server_version": "15", "version": "0"}


def made(**values: tuple[str, bool | None]) -> dict[str, Any]:
    """A report with these facts, and a clause for each."""
    listed = {name: facts.EvidenceFact("title", value, holds, "SELECT 1") for name, (value, holds) in values.items()}
    clause: Mapping[str, Any] = {"framework": "F", "asks": "much", "unknown": "more"}
    judged = [
        {**clause, "id": name, "facts": [name], "verdict": clauses.verdict([fact.holds])}
        for name, fact in listed.items()
    ]
    return document.assembled(PLACE, facts.as_json(listed), judged)


def test_each_fact_of_a_clause_is_declared_and_each_declared_fact_is_used() -> None:
    declared = facts.declared()
    named = {
        fact
        for name in clauses.chosen([FrameworkName.ALL])
        for clause in clauses.load(name)["clause"]
        for fact in clause["facts"]
    }
    assert named == set(declared) - {"checksums"}


@pytest.mark.parametrize("name", clauses.chosen([FrameworkName.ALL]))
def test_a_framework_is_whole(name: FrameworkName) -> None:
    loaded = clauses.load(name)
    assert loaded["name"]
    assert loaded["title"]
    ids = [clause["id"] for clause in loaded["clause"]]
    assert len(set(ids)) == len(ids)
    assert all(clause.keys() == {"id", "asks", "facts", "unknown"} for clause in loaded["clause"])
    assert all(len(clause["asks"]) < 100 for clause in loaded["clause"]), "own words, and few"


@pytest.mark.parametrize(("name", "given_"), facts.declared().items())
def test_a_fact_says_what_anybody_can_run(name: str, given_: Mapping[str, str]) -> None:
    assert given_["title"]
    assert len({"sql", "status", "how"} & given_.keys()) == 1, name
    assert "--" not in facts.statement_of(given_), "a comment would swallow the rest of the one line"


@given(st.lists(HOLDS, min_size=1))
def test_a_verdict(holds: list[bool | None]) -> None:
    found = clauses.verdict(holds)
    assert (found == "disproved") == (False in holds)
    assert (found == "shown") == all(holds)
    assert (found == "unknown") == (set(holds) == {None})


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.tuples(TEXT, HOLDS), max_size=4))
def test_a_page_shows_texts_and_runs_nothing(values: dict[str, tuple[str, bool | None]]) -> None:
    report = made(**values)
    text = page(report, document.unsigned(report), [{"what": "x", "before": "<script>", "now": "&"}])
    plain = re.sub(
        r"<(/?)(?:!doctype|html|head|body|meta|title|style|h[12]|p|table|thead|tbody|t[rhd]|code|br|a)\b[^<>]*>",
        "",
        text,
    )
    assert "<" not in plain.replace("&lt;", "")
    assert not re.search(r"<script|\son\w+=|javascript:|https?:", text.replace("&lt;", ""))


def test_reports_are_compared(tmp_path: Path) -> None:
    old = made(a=("1", True), b=("2", True), gone=("3", True))
    path = tmp_path / "old.json"
    path.write_text(json.dumps(document.unsigned(old)))
    now = made(a=("1", True), b=("5", False), new=("3", None))
    assert document.changes(document.earlier(path, now), now) == [
        {"what": "b", "before": "holds: 2", "now": "does not hold: 5"},
        {"what": "F b", "before": "shown", "now": "disproved"},
    ]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "7", '{"statement": "x"}', '{"statement": "{\\"statement\\": {\\"report\\": {}}}"}']
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(content)
    with pytest.raises(Problem, match="is no report"):
        document.earlier(path, made())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.fixed_dictionaries({"facts": JSON, "clauses": JSON, "made_at": JSON, "database_uuid": st.just("u")}))
def test_a_report_of_any_form_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, report: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("reports") / "old.json"
    path.write_text(json.dumps(document.unsigned(report)))
    now = made(a=("1", True))
    try:
        before = document.earlier(path, now)
    except Problem:
        return
    document.changes(before, now)


def test_another_database_s_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(document.unsigned({**made(), "database_uuid": "other"})))
    with pytest.raises(Problem, match="another database"):
        document.earlier(path, made())


def test_the_ledger_holds_only_against_an_anchor(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path, anchor = tmp_path / "reads.jsonl", tmp_path / "anchor"
    ledger = ReadLedger(path, "test", str(anchor))
    ledger.add([{"event": "started"}, {"event": "stopped"}])
    ledger.checkpoint(0)
    key = str(ledger.public)
    ledger.close()
    assert _verified(path, key, []).holds is None
    assert _verified(path, key, [anchor]).holds is True
    path.write_text(path.read_text().replace("stopped", "stopper"))
    assert _verified(path, key, [anchor]).holds is False
    with pytest.raises(Problem):
        _verified(path, "no key", [])
