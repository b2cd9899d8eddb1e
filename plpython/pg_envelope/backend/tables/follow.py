"""Brings view and base table in step after a user's DDL on one of them."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import build, catalog, grants, inspect, kept, partitions, upsert
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.refresh import refresh


def follow(host: Host, oid: int, touched: int, attnum: int) -> None:
    """Brings a protected table in step, by its view. `touched` is the changed relation; `attnum` is its column, or 0.
    A GRANT changes privileges of the view alone: `touched` is 0 then.

    Raises what refresh() and kept.check() raise, and so refuses the command.
    """
    key = catalog.key_of(host, oid)
    if key["view_relname"] is None:
        return
    base, view = inspect.inspect(host, key["base"]), inspect.inspect(host, key["view"])
    partitions.hand_over(host, base)
    pairs = catalog.pairs(host, key, base)
    changed = (
        _base_follows(host, base, view, pairs, attnum)
        if touched == view.oid
        else base.owner != view.owner or (attnum > 0 and any(shown != name for shown, name in pairs))
    )
    base = inspect.inspect(host, key["base"])
    layout = catalog.layout_of(host, key, base)
    if layout.by_role:
        _warn_of_column_privileges(host, base, view)
    if changed or _modes(layout) != (key["as_caller"], key["by_role"], set(key["row_key"])):
        refresh(host, oid)
    else:
        if layout.as_caller and key["mirrored"] != build.mirror(grants.read(host, view.oid)):
            build.grant_base(host, base, layout, view.oid)
        view = inspect.inspect(host, view.oid)
        (upsert.sync if touched else upsert.grant)(host, base, view, layout)
    if touched == base.oid:
        kept.check(host, catalog.layout_of(host, catalog.key_of(host, oid), base), base)


def _warn_of_column_privileges(host: Host, base: Table, view: Table) -> None:
    """Warns of new privileges on columns: the view reads as its caller, who needs the right to every column of the base
    table.
    """
    known = grants.read(host, base.oid)
    if any(row["column"] and row not in known for row in grants.read(host, view.oid)):
        host.warning(
            f"privileges on single columns of {view.sql} give no access by themselves: it has row-level security",
            hint="Grant the privilege on the whole table, or on a view over it that shows some of its columns.",
        )


def _modes(layout: Layout) -> tuple[bool, bool, set[str]]:
    return layout.as_caller, layout.by_role, set(layout.row_key)


def _base_follows(host: Host, base: Table, view: Table, pairs: list[tuple[str, str]], attnum: int) -> bool:
    """Does to the base table what was done to the view. Returns whether the view must be made again."""
    changed = base.owner != view.owner
    defaults = []
    for shown, name in pairs:
        old, new = base.column(name), view.column(shown)
        if old is None or new is None:
            continue
        if new.attnum == attnum and old.name != new.name:
            host.run(f"ALTER VIEW {view.sql} RENAME COLUMN {ident(new.name)} TO {ident(old.name)}")
            host.run(f"ALTER TABLE {base.sql} RENAME COLUMN {ident(old.name)} TO {ident(new.name)}")
            changed = True
        elif old.default != new.default and _is_base_s(old, new):
            defaults.append(build.set_default(old.name, new.default))
    if defaults:
        AsOwner(host, view.owner_oid).run(f"ALTER TABLE {base.sql} {commas(defaults)}")
    if base.owner != view.owner:
        host.run(f"ALTER TABLE {base.sql} OWNER TO {ident(view.owner)}")
    return changed


def _is_base_s(old: Column, new: Column) -> bool:
    """Tells whether the base table has the column's default: it has none for protected and generated columns."""
    return not old.generated and not old.identity and old.type == new.type
