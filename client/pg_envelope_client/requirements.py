"""Reads and writes envelope.toml, the columns that must be protected, and compares it with a database."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pg_envelope_client.problems import Problem

AUDIT_LEVELS = ("none", "statement", "row", "sync")
MEMBERS = {"column", "tag", "audit", "why"}
FORM = "See docs/coverage.md for the form of the file."
HEAD = """\
# The columns that must be protected: pg-envelope coverage compares this file with the database.
# See docs/coverage.md. In names, * stands for any text.
"""
Column = Mapping[str, Any]


@dataclass(frozen=True)
class Requirement:
    """Columns by a pattern of names or by a tag in their comments. `allow` takes columns out instead."""

    column: str = ""
    tag: str = ""
    audit: str = "none"
    why: str = ""
    allow: bool = False

    @property
    def label(self) -> str:
        return self.column or f"tag {self.tag}"

    def names(self, column: Column) -> bool:
        if self.tag:
            return re.search(rf"(?<![\w-])@?{re.escape(self.tag)}(?![\w-])", column["comment"] or "") is not None
        return fnmatchcase(name_of(column), self.column)


def name_of(column: Column) -> str:
    return f"{column['schema']}.{column['relation']}.{column['column']}"


def load(path: Path) -> list[Requirement]:
    """Returns the entries of a file. Raises Problem for a wrong one, because it must not pass for none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise Problem(f"{path} is not TOML", detail=str(error), hint=FORM) from None
    if not content.get("require") or not content.keys() <= {"require", "allow"}:
        raise Problem(f"{path} must have entries [[require]], may have [[allow]], and nothing else", hint=FORM)
    return [_entry(path, kind, given) for kind in ("require", "allow") for given in _tables(path, content, kind)]


def _tables(path: Path, content: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    found = content.get(kind, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Problem(f"{path}: {kind} must be [[{kind}]], one for each entry", hint=FORM)
    return found


def _entry(path: Path, kind: str, given: Mapping[str, Any]) -> Requirement:
    strange = sorted(given.keys() - MEMBERS)
    if strange or not all(isinstance(value, str) for value in given.values()):
        raise Problem(f"{path}: an entry [[{kind}]] has {strange or 'a value that is no text'}", hint=FORM)
    if ("column" in given) == ("tag" in given):
        raise Problem(f"{path}: each entry [[{kind}]] names either a column or a tag", hint=FORM)
    if given.get("column", "x.x.x").count(".") < 2 or not given.get("tag", "x"):
        raise Problem(f"{path}: {given.get('column', 'a tag')!r} must be schema.table.column, or a tag", hint=FORM)
    if given.get("audit", "none") not in AUDIT_LEVELS:
        raise Problem(f"{path}: audit is one of {', '.join(AUDIT_LEVELS)}", hint=FORM)
    if kind == "allow" and not given.get("why"):
        raise Problem(f"{path}: an entry [[allow]] must say why", hint=FORM)
    return Requirement(**given, allow=kind == "allow")


def compare(entries: Sequence[Requirement], columns: Sequence[Column]) -> list[dict[str, str]]:
    """Returns a row of column, state (ok, failed, allowed), detail and entry for each column that an entry names.

    An entry that names no column is a failed row: a wrong name must not pass for a protected column.
    """
    allowed = [entry for entry in entries if entry.allow]
    rows = [row for entry in entries if not entry.allow for row in _compared(entry, allowed, columns)]
    return sorted(rows, key=lambda row: (row["column"], row["entry"]))


def _compared(
    entry: Requirement, allowed: Sequence[Requirement], columns: Sequence[Column]
) -> Iterator[dict[str, str]]:
    named = [column for column in columns if entry.names(column)]
    for column in named:
        state, detail = _state(entry, allowed, column)
        yield {"column": name_of(column), "state": state, "detail": detail, "entry": entry.label}
    if not named:
        yield {"column": "", "state": "failed", "detail": "names no column of this database", "entry": entry.label}


def _state(entry: Requirement, allowed: Sequence[Requirement], column: Column) -> tuple[str, str]:
    exception = next((one for one in allowed if one.names(column)), None)
    if exception is not None:
        return "allowed", exception.why
    if not column["is_protected"]:
        return "failed", "holds plaintext"
    level = column["audit"] or "none"
    if AUDIT_LEVELS.index(level) < AUDIT_LEVELS.index(entry.audit):
        return "failed", f"is audited at level {level}, and must be at {entry.audit}"
    return "ok", "protected"


def proposal(found: Iterable[tuple[str, str]]) -> str:
    """Returns a file that requires each column (schema.table.column, and why)."""
    import tomlkit

    document, entries = tomlkit.document(), tomlkit.aot()
    for column, why in found:
        entry = tomlkit.table()
        entry.update({"column": _literally(column), "why": why})
        entries.append(entry)
    if entries:
        document.add("require", entries)
    return HEAD + "\n" + tomlkit.dumps(document)


def _literally(name: str) -> str:
    """Returns the pattern that names this column only."""
    return re.sub(r"([*?\[])", r"[\1]", name)
