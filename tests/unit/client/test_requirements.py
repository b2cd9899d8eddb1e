"""envelope.toml: what makes no sense is refused, and what is compared."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope_client.problems import Problem
from pg_envelope_client.requirements import Requirement, compare, load, proposal

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


def column(
    name: str, protected: bool = True, comment: str | None = None, audit: str | None = "none"
) -> dict[str, object]:
    schema, relation, last = name.split(".")
    return {
        "schema": schema,
        "relation": relation,
        "column": last,
        "comment": comment,
        "is_protected": protected,
        "audit": audit,
    }


def states(entries: list[Requirement], *columns: dict[str, object]) -> list[tuple[str, str]]:
    return [(row["column"], row["state"]) for row in compare(entries, columns)]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "require = 1",
        "require = []",
        "[[allow]]\ncolumn = 'a.b.c'\nwhy = 'x'",
        "[require]\ncolumn = 'a.b.c'",
        "[[require]]\nwhy = 'x'",
        "[[require]]\ncolumn = 'email'",
        "[[require]]\ncolumn = 'a.b.c'\ntag = 'pii'",
        "[[require]]\ntag = ''",
        "[[require]]\ncolumn = 7",
        "[[require]]\ncolum = 'a.b.c'",
        "[[require]]\ncolumn = 'a.b.c'\naudit = 'always'",
        "[[require]]\ncolumn = 'a.b.c'\nallow = true",
        "[[require]]\ncolumn = 'a.b.c'\n[[allow]]\ncolumn = 'a.b.c'",
        "[[require]]\ncolumn = 'a.b.c'\n[[alow]]\ncolumn = 'a.b.c'",
        "[[require",
        "\xff",
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "envelope.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(Problem) as failed:
        load(path)
    assert failed.value.hint


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=5, unique=True))
def test_a_proposal_names_its_columns_and_no_others(names: list[tuple[str, str, str]]) -> None:
    wanted = [".".join(name) for name in names]
    entries = tomllib.loads(proposal((name, "why") for name in wanted)).get("require", [])
    found = [Requirement(**entry) for entry in entries]
    columns = [{"schema": a, "relation": b, "column": c, "comment": None} for a, b, c in names]
    assert [[entry.names(one) for one in columns] for entry in found] == [
        [name == other for other in wanted] for name in wanted
    ]


def test_a_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "envelope.toml"
    path.write_bytes(b"\xef\xbb\xbf[[require]]\r\ncolumn = 'a.b.c'\r\n")
    assert load(path) == [Requirement("a.b.c")]


def test_columns_by_name_and_by_tag() -> None:
    entries = [Requirement("public.*.email"), Requirement(tag="pii")]
    found = states(
        entries,
        column("public.customer.email"),
        column("public.letter.email", protected=False),
        column("other.letter.email", protected=False),
        column("public.customer.phone", protected=False, comment="for calls @pii"),
        column("public.customer.note", protected=False, comment="not pii-free, no tag: piix"),
    )
    assert found == [
        ("public.customer.email", "ok"),
        ("public.customer.phone", "failed"),
        ("public.letter.email", "failed"),
    ]


def test_a_column_may_be_allowed_with_a_reason() -> None:
    entries = [Requirement("public.*.email"), Requirement("public.press.email", why="public", allow=True)]
    assert states(entries, column("public.press.email", protected=False)) == [("public.press.email", "allowed")]


def test_an_entry_that_names_nothing_fails() -> None:
    assert states([Requirement("public.custmer.email")], column("public.customer.email")) == [("", "failed")]


@pytest.mark.parametrize(
    ("wanted", "level", "state"), [("none", "none", "ok"), ("row", "statement", "failed"), ("row", "sync", "ok")]
)
def test_an_audit_level_may_be_required(wanted: str, level: str, state: str) -> None:
    assert states([Requirement("a.b.c", audit=wanted)], column("a.b.c", audit=level)) == [("a.b.c", state)]
