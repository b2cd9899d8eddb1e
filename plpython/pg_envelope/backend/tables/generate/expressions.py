"""Writes expressions over a row: its canonical texts, row key, rights, and values in the clear and encrypted.

They run under the caller's search_path, too, so every function, type and operator is qualified.
"""

from __future__ import annotations

from collections.abc import Iterable

from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables.canonical import canonical, restored
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.records import replace

# Compares bytes: every type has this equality, and it tells 1.0 from 1.00.
SAME = "OPERATOR(pg_catalog.*=)"
JOINED = " OPERATOR(pg_catalog.||) "
TEXT = "pg_catalog.text"


def bound_columns(layout: Layout, protected: Protected) -> list[str]:
    """Returns the columns that make up an envelope's row key, in their order: FORMAT.md section 1.1."""
    if protected.options.bind != "row":
        return [layout.scope_column] if layout.scope_column else []
    scope = [layout.scope_column] if layout.scope_column and layout.scope_column not in layout.row_key else []
    return [*scope, *layout.row_key]


def all_bound(layout: Layout) -> list[str]:
    """Returns every column that some envelope of a row is bound to, or that names the key which encrypts it."""
    names = [name for protected in layout.protected.values() for name in bound_columns(layout, protected)]
    return list(dict.fromkeys([*names, *filter(None, [layout.scope_column])]))


def row_key(layout: Layout, protected: Protected, source: str) -> str:
    """The row key of a row of `source`."""
    return joined_texts(layout, bound_columns(layout, protected), source)


def joined_texts(layout: Layout, names: Iterable[str], source: str) -> str:
    """Joins columns to one text: a single column as it is, several columns each after its length."""
    texts = [canonical(layout.column(name), source) for name in names]
    if len(texts) < 2:
        return texts[0] if texts else "''"
    return JOINED.join(f"pg_catalog.length({text})::{TEXT}{JOINED}':'{JOINED}{text}" for text in texts)


def scope(layout: Layout, source: str) -> str:
    """Returns a last argument: the tenant or subject whose key encrypts."""
    return f", {canonical(layout.column(layout.scope_column), source)}" if layout.scope_column else ""


def _field(protected: Protected) -> str:
    return f"'{protected.field_uuid}'::pg_catalog.uuid"


def seal(protected: Protected) -> str:
    """Returns the right to encrypt, for code that runs as the table's owner."""
    return key_of(protected.field_uuid)


def seal_at_hand(protected: Protected) -> str:
    """The same in a statement that reads the table's seals as `s`."""
    return f"s.{ident(protected.field_uuid)}"


def key_of(field_uuid: str) -> str:
    """Returns the right to use the active key of a field, for code that runs as the table's owner."""
    where = f"c.field_uuid OPERATOR(pg_catalog.=) '{field_uuid}'::pg_catalog.uuid"
    return f"(SELECT c.seal FROM envelope_private.capability c WHERE {where})"


def capability(layout: Layout, protected: Protected) -> str:
    """Returns the right to decrypt: as the path of the view hands it over, or under row-level security the field's
    uuid.
    """
    if layout.by_role:
        return _field(protected)
    right = f"r.{ident(protected.field_uuid)}"
    # PostgreSQL runs this sub-select once for each execution of a plan, before the first value: so it is the place
    # where an execution gets its name for the ledger, and the rule is found that holds for the reader.
    parts = [right]
    if protected.is_audited:
        parts += [_uuid(_field(protected)), "envelope_internal.read_id()"]
    if protected.is_masked:
        parts.append(_uuid(f"envelope_internal.mask_of({_field(protected)}, current_user)"))
    return f"(SELECT {JOINED.join(parts)} FROM {layout.right(protected)} r)"


def _uuid(expression: str) -> str:
    """Returns the 16 bytes of a uuid."""
    return f"pg_catalog.uuid_send({expression})"


def kind_of(column: Column) -> str:
    """Returns the suffix of the functions for a column's values: they encrypt bytes or text."""
    return "bytea" if column.is_bytes else "text"


def decrypted(layout: Layout, protected: Protected, source: str = "t") -> str:
    """The expression that reads a protected column of `source` with the column's own type and collation."""
    return restored(protected.column, f"{_decrypt(layout, protected)}({_given(layout, protected, source)})")


def decrypted_carefully(layout: Layout, protected: Protected, source: str = "t") -> str:
    """Returns decrypted() with one error, in no word of the server's, for every envelope that gives no value."""
    given = _given(layout, protected, source)
    asked = f"envelope_internal.has_value({given}, {literal(reads(layout, protected))})"
    return restored(protected.column, f"CASE WHEN {asked} THEN {_decrypt(layout, protected)}({given}) END")


def _decrypt(layout: Layout, protected: Protected) -> str:
    return f"envelope_internal.decrypt_{kind_of(protected.column)}{_path(layout, protected)}"


def _path(layout: Layout, protected: Protected) -> str:
    if layout.by_role:
        return "_as_role"
    return "_masked" if protected.is_masked else "_audited" if protected.is_audited else ""


def _given(layout: Layout, protected: Protected, source: str) -> str:
    value = f"{source}.{ident(protected.column.name)}"
    return f"{value}, {capability(layout, protected)}, {row_key(layout, protected, source)}"


def reads(layout: Layout, protected: Protected) -> str:
    """A query that turns an envelope into a value: $1 is the envelope, $2 the right, $3 the row key."""
    return f"SELECT ({restored(protected.column, f'{_decrypt(layout, protected)}($1, $2, $3)')}) IS NULL"


def reads_as_role(layout: Layout, protected: Protected) -> str:
    """reads() by the current role's right: $2 is the field."""
    return reads(replace(layout, by_role=True), protected)


def either(layout: Layout, protected: Protected, opened: str, source: str = "t") -> str:
    """Returns the value of a protected column of `source`, which a roll-out may have left in the clear or in the form
    of other software.

    `opened` is the expression that opens its envelope.
    """
    if not protected.in_rollout:
        return opened
    before = restored(protected.column, legacy(layout, protected, source)) if layout.adopts else None
    return _until_sealed(protected, before or clear_value(protected, source), opened, source)


def either_as_role(layout: Layout, protected: Protected, source: str) -> str:
    """Returns the value of a row by the current role's right, where no sub-select is allowed."""
    opened = opened_as_role(layout, protected, source)
    if not protected.in_rollout:
        return opened
    return _until_sealed(protected, before_as_role(layout, protected, source), opened, source)


def _until_sealed(protected: Protected, before: str, opened: str, source: str) -> str:
    """Returns the value of before for a row that has no envelope yet."""
    return f"CASE WHEN {source}.{ident(protected.column.name)} IS NULL THEN {before} ELSE {opened} END"


def legacy(layout: Layout, protected: Protected, source: str) -> str:
    """Returns the expression that opens what other software encrypted: a text or a bytea. The right is that of the
    column.
    """
    path = "_as_role" if layout.by_role else ""
    given = f"{legacy_value(layout, protected, source)}, {capability(layout, protected)}"
    return f"envelope_internal.legacy_{kind_of(protected.column)}{path}({given})"


def legacy_as_role(layout: Layout, protected: Protected, source: str) -> str:
    """Returns legacy() by the current role's right, where no sub-select is allowed."""
    return legacy(replace(layout, by_role=True), protected, source)


def before_as_role(layout: Layout, protected: Protected, source: str) -> str:
    """Returns the value of before that a roll-out has left in a row of `source`, by the current role's right.

    It is NULL where there is none, and for what other software encrypted and does not open.
    """
    if not layout.adopts:
        return clear_value(protected, source)
    opened = restored(protected.column, legacy_as_role(layout, protected, source))
    return f"CASE WHEN {legacy_opens(layout, protected, source)} THEN {opened} END"


def legacy_opens(layout: Layout, protected: Protected, source: str) -> str:
    """Returns the condition that a foreign value opens, for the table's owner. It raises no error of the value."""
    return f"envelope_internal.legacy_opens({legacy_value(layout, protected, source)}, {_field(protected)})"


def legacy_value(layout: Layout, protected: Protected, source: str) -> str:
    """Returns what other software encrypted, as text or bytea. The text of a JSON object is as good as the object."""
    column = layout.column(protected.plain or "")
    if protected.beside:
        return with_parts(column, beside(layout, protected), source)
    value = clear_value(protected, source)
    return value if column.is_bytes else f"{value}::{TEXT}"


def beside(layout: Layout, protected: Protected) -> list[Column]:
    """Returns the columns that hold parts of the old values of a column that is being adopted."""
    return [layout.column(name) for name in protected.beside]


def with_parts(column: Column, others: Iterable[Column], source: str) -> str:
    """Returns a value and the parts of it that other columns hold, as one text: pg_envelope/foreign/apart.py."""
    return f"{_hex(column, source)}{JOINED}'.'{JOINED}{parts(others, source)}"


def parts(columns: Iterable[Column], source: str) -> str:
    """Returns the parts alone. A missing part is empty, so that no value gets lost with it."""
    return f"{JOINED}'.'{JOINED}".join(f"COALESCE({_hex(column, source)}, '')" for column in columns)


def _hex(column: Column, source: str) -> str:
    value = f"{source}.{ident(column.name)}"
    content = value if column.is_bytes else f"pg_catalog.convert_to({canonical(column, source)}, 'UTF8')"
    return f"pg_catalog.encode({content}, 'hex')"


def clear_value(protected: Protected, source: str) -> str:
    """Returns the column of `source` that has the value in the clear during a roll-out."""
    return f"{source}.{ident(protected.plain or '')}"


def in_the_clear(protected: Protected) -> Protected:
    """Returns the column whose content is to be encrypted during a roll-out: it has another name."""
    return replace(protected, column=replace(protected.column, name=protected.plain or ""))


def content(protected: Protected, source: str) -> str:
    """Returns the expression for what is encrypted: the bytes of a bytea, the canonical text of everything else."""
    column = protected.column
    return f"{source}.{ident(column.name)}" if column.is_bytes else canonical(column, source)


def encrypted(layout: Layout, protected: Protected, seal: str) -> str:
    """The expression that makes the envelope for a protected column of NEW, for code that runs as the owner."""
    bound = f"{row_key(layout, protected, 'NEW')}{scope(layout, 'NEW')}"
    kind = kind_of(protected.column)
    given = adopted(layout, protected, seal) if layout.adopts else content(protected, "NEW")
    return f"envelope_internal.encrypt_{kind}({given}, {seal}, {bound})"


def adopted(layout: Layout, protected: Protected, seal: str) -> str:
    """Returns what NEW's value means. An application that still encrypts by itself would be encrypted twice."""
    kind = kind_of(protected.column)
    written = content(protected, "NEW")
    if protected.beside:
        text = with_parts(protected.column, beside(layout, protected), "NEW")
        written = text if kind == "text" else f"pg_catalog.convert_to({text}, 'UTF8')"
    return f"envelope_internal.adopted_{kind}({written}, {seal})"


def encrypted_as_role(layout: Layout, protected: Protected, source: str, written: str | None = None) -> str:
    """Returns the same by the current role's right, where no sub-select is allowed.

    `written` is the expression of the content, if that is not what the column of `source` holds.
    """
    bound = f"{row_key(layout, protected, source)}{scope(layout, source)}"
    kind = kind_of(protected.column)
    given = written or content(protected, source)
    return f"envelope_internal.encrypt_{kind}_as_role({given}, {_field(protected)}, {bound})"


def drafted(protected: Protected) -> str:
    """Returns the draft that stands for an envelope of NEW until the base table's guard knows the row key."""
    return f"envelope_internal.draft_{kind_of(protected.column)}({content(protected, 'NEW')})"


def stored(name: str, careful: bool) -> str:
    """Returns the envelope in a column of `t`. With `careful` it is NULL where the server cannot read it."""
    value = f"t.{ident(name)}"
    return f"envelope_internal.readable({value})" if careful else value


def resealed(layout: Layout, name: str, careful: bool) -> str:
    """The expression that brings a protected column of `t` to the newest key; for the table's owner."""
    protected = layout.protected[name]
    bound = f"{row_key(layout, protected, 't')}{scope(layout, 't')}"
    return f"envelope_internal.reseal({stored(name, careful)}, {seal(protected)}, {bound})"


def opened_as_role(layout: Layout, protected: Protected, source: str) -> str:
    """Returns decrypted() by the current role's right, where no sub-select is allowed."""
    return decrypted(replace(layout, by_role=True), protected, source)


def record(values: Iterable[str]) -> str:
    """Returns a row as one value. Without the cast PostgreSQL would compare its columns one by one."""
    return f"ROW({commas(values)})::pg_catalog.record"


def same(names: Iterable[str], left: str = "NEW", right: str = "OLD") -> str:
    """Returns the condition that columns of two rows hold the same bytes."""
    names = list(names)
    rows = (record(f"{source}.{ident(name)}" for name in names) for source in (left, right))
    return f" {SAME} ".join(rows)


def this_row(layout: Layout) -> str:
    """Returns the condition that a row `t` of the base table has OLD's key."""
    return " AND ".join(f"t.{ident(name)} {equals} OLD.{ident(name)}" for name, equals in layout.row_key.items())


def stored_value(layout: Layout, protected: Protected, version: str) -> str:
    """Returns the value that OLD's row has now, for the table's owner. `version` is the row's ctid, where two rows may
    have one key.
    """
    row = this_row(layout) + (f" AND t.ctid OPERATOR(pg_catalog.=) {version}" if layout.key_is_deferrable else "")
    return f"(SELECT {decrypted(layout, protected)} FROM {layout.base} t WHERE {row})"


def shows(layout: Layout, protected: Protected) -> str:
    """Returns the condition that OLD has the value of a row `t`, or a mask of it."""
    old = record([f"OLD.{ident(protected.column.name)}"])
    if protected.column.is_bytes:
        same_value = f"{record([decrypted(layout, protected)])} {SAME} {old}"
        return f"({same_value} OR {is_null(f'OLD.{ident(protected.column.name)}')})"
    every = f"envelope_internal.shown_as({_given(layout, protected, 't')}, {_field(protected)})"
    shown = record([restored(protected.column, "m.content")])
    return f"EXISTS (SELECT FROM pg_catalog.unnest({every}) AS m (content) WHERE {shown} {SAME} {old})"


def differ(names: Iterable[str], left: str = "NEW", right: str = "OLD") -> str:
    """Returns the condition that some column of two rows holds other bytes."""
    return f"NOT ({same(names, left, right)})"


def loses(column: Column, source: str) -> str:
    """Returns the condition that a column of `source` would change its value on the way through the canonical text."""
    value = f"{source}.{ident(column.name)}"
    return f"NOT ({record([restored(column, canonical(column, source))])} {SAME} {record([value])})"


def is_null(value: str) -> str:
    """Also holds for composite values, where IS NULL asks for each part."""
    return f"{value} IS NOT DISTINCT FROM NULL"


def is_draft(value: str) -> str:
    # An escape string, whatever standard_conforming_strings says.
    return f"pg_catalog.substr({value}, 3, 4) OPERATOR(pg_catalog.=) E'\\\\x00000000'::pg_catalog.bytea"
