"""Carries out export(): the table becomes a plain one whose columns hold the ciphertext of other software."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import ROW, commas, ident, of_any_row
from pg_envelope.backend.tables import dependents, inspect, opening, whole
from pg_envelope.backend.tables.generate import Layout, opened_as_role
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.unprotect import make_plain
from pg_envelope.foreign.writers import WRITERS, Write
from pg_envelope.records import replace

TYPES = ("text", "varchar", "bytea")


class Exporting:
    """Hands its writer to the function that the server calls for each value, while export() runs in this session."""

    def __init__(self) -> None:
        self._write: Write | None = None

    def value(self, content: str | bytes | None) -> str | bytes | None:
        """Raises NotPermitted outside of export()."""
        if self._write is None:
            raise errors.NotPermitted
        if content is None:
            return None
        return self._write(content)

    def run(self, write: Write, act: Callable[[], None]) -> None:
        self._write = write
        try:
            act()
        finally:
            self._write = None


def export(host: Host, found: Place, names: list[str], form: str) -> None:
    """Raises Unsupported before anything is touched, and Damaged where values do not open."""
    base, layout = found.base, found.layout
    _refuse(host, found, names)
    graph = dependents.lock(host, found.view, found.view.sql, base.sql)
    kind = "bytea" if WRITERS[form][1] else "text"
    after = _typed(layout, kind)
    make_plain(host, found.key, base, found.view, after, graph, lambda: _write(host, found, kind))


def _typed(layout: Layout, kind: str) -> Layout:
    """Returns the layout with the types of the ciphertext."""
    protected = {
        name: replace(found, column=_ciphertext(found.column, kind)) for name, found in layout.protected.items()
    }
    return replace(layout, protected=protected)


def _ciphertext(column: Column, kind: str) -> Column:
    collation = None if kind == "bytea" else '"default"'
    return replace(column, type=kind, base_type=kind, collation=collation, storage="x", compression="")


def _write(host: Host, found: Place, kind: str) -> None:
    whole.refuse_missing(host, found.key, found.layout)
    owner = AsOwner(host, found.base.owner_oid)
    # The constraint by which a roll-out keeps the old column empty.
    proofs.begin_again(host, inspect.inspect(host, found.oid), found.layout)
    columns = commas(_written(found, name, kind) for name in found.layout.protected)
    try:
        owner.run(f"ALTER TABLE {found.base.sql} {columns}")
    except Exception as error:
        if str(getattr(error, "sqlstate", "")).startswith((*faulty.OF_A_VALUE, *opening.OF_A_KEY)):
            opening.refuse_damaged(owner, found.layout)
        raise


def _written(found: Place, name: str, kind: str) -> str:
    protected = found.layout.protected[name]
    value = opened_as_role(found.layout, protected, ROW)
    given = value if protected.column.is_bytes else f"({value})::pg_catalog.text"
    made = f"envelope_internal.exported_{kind}({given})"
    collation = "" if kind == "bytea" else ' COLLATE pg_catalog."default"'
    return f"ALTER {ident(protected.plain or name)} TYPE pg_catalog.{kind}{collation} USING {of_any_row(made)}"


def _refuse(host: Host, found: Place, names: list[str]) -> None:
    reasons = list(_reasons(host, found, names))
    if reasons:
        raise errors.Unsupported(
            f"{found.view.sql} cannot be exported as it is; nothing was changed",
            detail="\n".join(f"- {reason}" for reason in reasons),
            hint="Change what is listed, then call it again. unprotect() is the way out to values in the clear.",
        )


def _reasons(host: Host, found: Place, names: list[str]) -> Iterator[str]:
    protected = found.layout.protected
    for name in sorted(set(protected) ^ set(names)):
        yield f"column {name} is protected, and not named" if name in protected else f"column {name} is not protected"
    for name, column in protected.items():
        if column.column.base_type not in TYPES:
            yield f"column {name} is of type {column.column.type}: export writes {', '.join(TYPES)}"
        shown = found.view.column(name)
        if shown and shown.default is not None:
            yield f"column {name} has a default in the clear: drop it"
    for check in found.layout.checks:
        yield f"CHECK constraint {check.name} is about values in the clear: drop it"
    for name in found.layout.searches:
        yield f"search column {name} is there: CALL envelope.drop_search(...)"
    graph = dependents.lock(host, found.view, found.view.sql, found.base.sql)
    for dependent in dependents.read(host, graph.nodes):
        yield f"{dependent.what} uses the values in the clear"
