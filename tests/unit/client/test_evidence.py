"""The report's clauses, verdicts, comparison and page, and the fact about a real ledger of reads."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pypdf
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.broker.ledger.read_ledger import ReadLedger
from pg_envelope.reads_check import checkpoints_path
from pg_envelope.suites import SUITES, Suite
from pg_envelope_client.commands.evidence import _verified
from pg_envelope_client.evidence import clauses, document, facts
from pg_envelope_client.evidence.names import FrameworkName
from pg_envelope_client.evidence.page import LIMITS, page
from pg_envelope_client.evidence.pdf import pdf
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


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_the_fact_about_algorithms_knows_each_suite(suite: Suite) -> None:
    statement = facts.statement_of(facts.declared()["algorithms"])
    assert f"WHEN {suite.number} THEN '{suite.name}" in statement
    known = re.search(r"suite IN \(([\d, ]+)\) AS known", statement)
    assert known
    assert str(suite.number) in known[1].split(", ")


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


CHANGED = [{"what": "shop", "before": "holds: 1", "now": "does not hold: 2"}]


@pytest.fixture(scope="module")
def cyrillic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TrueType file with a box for each ASCII and each Cyrillic letter."""
    letters = {code: f"u{code:04X}" for code in (*range(0x20, 0x7F), *range(0x410, 0x450))}
    pen = TTGlyphPen(None)
    for at, draw in zip(((0, 0), (0, 700), (500, 700), (500, 0)), (pen.moveTo, *[pen.lineTo] * 3), strict=True):
        draw(at)
    pen.closePath()
    box, names = pen.glyph(), [".notdef", *letters.values()]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap(letters)
    font.setupGlyf(dict.fromkeys(names, box))
    font.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path = tmp_path_factory.mktemp("fonts") / "boxes.ttf"
    font.save(path)
    return path


def read_back(content: bytes) -> str:
    """The text of all pages. A line may be broken anywhere, so that spaces and ends of lines are left out."""
    pages = pypdf.PdfReader(io.BytesIO(content)).pages
    return re.sub(r"\s", "", "".join(one.extract_text() for one in pages))


def printed(report: dict[str, Any], *fonts: Path) -> bytes:
    return pdf(report, document.unsigned(report), [], fonts)


def told(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_a_pdf_has_all_that_the_report_has() -> None:
    report = made(a=("many " * 4000, True), b=("x" * 5000, False), c=("ü", None))
    signed = {**document.unsigned(report), "signature": "SIGNED", "public_key": "KEY"}
    content = pdf(report, signed, CHANGED, [])
    text = read_back(content)
    shown = [LIMITS, report["made_at"], "signed by the key KEY", "Signature: SIGNED", "many " * 4000, "x" * 5000, "ü"]
    shown += ["holds: yes", "holds: no", "holds: unknown", "see for yourself: SELECT 1", "F a: much", "cannot be known"]
    shown += [f"verdict: {word}" for word in ("shown", "disproved", "unknown")]
    shown += [text for row in CHANGED for text in row.values()]
    # A page's number stands in the middle of a text that goes on.
    plain = re.sub(r"Page\d+of\d+", "", text)
    assert [one for one in shown if told(one) not in plain] == []
    pages = len(pypdf.PdfReader(io.BytesIO(content)).pages)
    assert pages > 2
    assert all(f"Page{number}of{pages}" in text for number in range(1, pages + 1))
    assert content == pdf(report, signed, CHANGED, [])


def test_the_signed_json_is_attached_to_the_pdf() -> None:
    report = made(a=("1", True))
    signed = document.unsigned(report)
    ((name, (attached,)),) = pypdf.PdfReader(io.BytesIO(pdf(report, signed, [], []))).attachments.items()
    assert (name, json.loads(attached)) == ("report.json", signed)
    assert "NOTSIGNED" in read_back(pdf(report, signed, [], []))


@pytest.mark.parametrize(
    ("name", "with_font", "shown"),
    [
        ("таблица", False, "".join(f"\\u{{{ord(one):x}}}" for one in "таблица")),
        ("таблица", True, "таблица"),
        ("表", True, "\\u{8868}"),
        ("a\u202eb\n\x00", False, "a\\u{202e}b\\u{a}\\u{0}"),
        ("\ud800", False, "\\u{d800}"),
        ("{nb} **b** <b>", False, "{nb}**b**<b>"),
    ],
)
def test_a_pdf_writes_names_of_any_script(cyrillic: Path, name: str, with_font: bool, shown: str) -> None:
    fonts = [cyrillic] if with_font else []
    assert shown in read_back(printed(made(a=(name, True)), *fonts))


@given(st.text(max_size=60))
def test_a_pdf_holds_any_text(text: str) -> None:
    report = made(a=(text, True))
    assert pdf(report, document.unsigned(report), [{"what": text, "before": text, "now": text}], [])


# The library leaves the file open, and the command ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_no_font_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "font.ttf"
    path.write_bytes(b"no font")
    with pytest.raises(Problem, match="is no font"):
        printed(made(), path)


def test_a_missing_library_is_named() -> None:
    code = "import sys; sys.modules['fpdf'] = None; import pg_envelope_client.evidence.pdf"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Problem: fpdf2 is not installed" in ended.stderr


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


HOURS = 3600.0


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[ReadLedger, Path, Path]]:
    """A ledger, its file, and its anchor."""
    tmp_path.chmod(0o700)
    path, anchor = tmp_path / "reads.jsonl", tmp_path / "anchor"
    ledger = ReadLedger(path, "test", str(anchor))
    ledger.add([{"event": "started"}, {"event": "stopped"}])
    yield ledger, path, anchor
    ledger.close()


def test_the_ledger_holds_only_against_an_anchor(kept: tuple[ReadLedger, Path, Path]) -> None:
    ledger, path, anchor = kept
    ledger.checkpoint(time.time())
    key = str(ledger.public)
    assert _verified(path, key, []).holds is None
    assert _verified(path, key, [anchor]).holds is True
    path.write_text(path.read_text().replace("stopped", "stopper"))
    assert _verified(path, key, [anchor]).holds is False
    with pytest.raises(Problem):
        _verified(path, "no key", [])


def test_an_anchor_that_ended_long_ago_proves_no_whole_ledger(kept: tuple[ReadLedger, Path, Path]) -> None:
    """Lines after its last checkpoint can be cut off together with the ledger's own checkpoints."""
    ledger, path, anchor = kept
    ledger.checkpoint(time.time() - 2 * HOURS)
    before = {file: file.read_bytes() for file in (path, anchor, checkpoints_path(path))}
    ledger.add([{"event": "later"}])
    ledger.checkpoint(time.time())
    key = str(ledger.public)
    assert _verified(path, key, [anchor]).holds is True
    anchor.write_bytes(before[anchor])
    assert _verified(path, key, [anchor]).holds is None
    for file, content in before.items():
        file.write_bytes(content)
    assert _verified(path, key, [anchor]).holds is None


@given(st.lists(st.sampled_from([-2 * HOURS, -10.0, 2 * HOURS]), min_size=1, max_size=4))
def test_the_newest_anchored_checkpoint_counts(tmp_path_factory: pytest.TempPathFactory, ages: list[float]) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    folder.chmod(0o700)
    path, anchor, now = folder / "reads.jsonl", folder / "anchor", time.time()
    ledger = ReadLedger(path, "test", str(anchor))
    for age in ages:
        ledger.add([{"event": "started"}])
        ledger.checkpoint(now + age)
    key = str(ledger.public)
    ledger.close()
    assert _verified(path, key, [anchor]).holds is (True if ages[-1] == -10.0 else None)
