"""Dependents that keep their place: views, rules, policies, and functions with a body that PostgreSQL has parsed.

Each is given a text without the relation for a while, and its own text afterwards. Owner, privileges, options,
comments, and what depends on it stay.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import generate, inspect
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.dependents.graph import Node
from pg_envelope.records import dataclass

VIEW = """
SELECT pg_get_viewdef(c.oid) AS query, array_to_string(c.reloptions, ', ') AS options,
    EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
        WHERE o.option_name = 'security_invoker' AND o.option_value::boolean) AS is_invoker
FROM pg_catalog.pg_class c WHERE c.oid = $1"""
RULE = """
SELECT pg_get_ruledef(w.oid) AS text, w.rulename AS name, w.ev_type AS event, w.is_instead,
    c.oid::regclass::text AS relation, c.relowner AS owner, n.nspname AS schema,
    obj_description(w.oid, 'pg_rewrite') AS comment
FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE w.oid = $1"""
POLICY = """
SELECT p.polname AS name, c.oid::regclass::text AS relation, c.relowner AS owner, n.nspname AS schema,
    pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS with_check
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.oid = $1"""
FUNCTION = """
SELECT pg_get_functiondef(f.oid) AS text, pg_get_function_sqlbody(f.oid) AS body, f.proowner AS owner,
    n.nspname AS schema
FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace WHERE f.oid = $1"""
EVENTS = {"2": "UPDATE", "3": "INSERT", "4": "DELETE"}


@dataclass(frozen=True)
class InPlace(Dependent):
    """`stub` puts a text without the relation in the place of its own. Only a function's holds text of a user.

    `reads_as_owner`: it reads tables with the right of its owner, whoever asks.
    """

    stub: str
    reads_as_owner: bool = False

    @property
    def leaves(self) -> str:
        return self.stub


@dataclass(frozen=True)
class Attached(InPlace):
    """A rule or policy, which is part of another relation."""

    needs_create = False


@dataclass(frozen=True)
class AtomicFunction(InPlace):
    def away(self, host: Host) -> None:
        # The defaults of its arguments are the owner's text, too.
        self.as_owner_unchecked(host, self.stub)


def view(host: Host, node: Node) -> InPlace:
    found = inspect.inspect(host, node.oid)
    (row,) = host.rows(VIEW, ["oid"], [node.oid])
    # They are given explicitly, because CREATE OR REPLACE VIEW would otherwise drop them without a word.
    options = f" WITH ({row['options']})" if row["options"] else ""
    return InPlace(
        node.what,
        found.owner_oid,
        found.schema,
        f"CREATE OR REPLACE VIEW {found.sql}{options} AS {row['query']}",
        generate.stub(found.sql, found.columns),
        reads_as_owner=not row["is_invoker"],
    )


def rule(host: Host, node: Node) -> Attached:
    (row,) = host.rows(RULE, ["oid"], [node.oid])
    instead = "INSTEAD " if row["is_instead"] else ""
    stub = f"RULE {ident(row['name'])} AS ON {EVENTS[row['event']]} TO {row['relation']} DO {instead}NOTHING"
    text = "CREATE OR REPLACE RULE" + row["text"].removeprefix("CREATE RULE")
    stub = f"CREATE OR REPLACE {stub}"
    return Attached(node.what, row["owner"], row["schema"], text, stub, reads_as_owner=True)


def policy(host: Host, node: Node) -> Attached:
    """Its stub lets nobody see or write a row."""
    (row,) = host.rows(POLICY, ["oid"], [node.oid])
    parts = {"USING": row["using"], "WITH CHECK": row["with_check"]}
    alter = f"ALTER POLICY {ident(row['name'])} ON {row['relation']}"
    texts = [f"{word} ({text})" for word, text in parts.items() if text is not None]
    stubs = [f"{word} (false)" for word, text in parts.items() if text is not None]
    return Attached(node.what, row["owner"], row["schema"], " ".join([alter, *texts]), " ".join([alter, *stubs]))


def function(host: Host, node: Node) -> AtomicFunction:
    (row,) = host.rows(FUNCTION, ["oid"], [node.oid])
    stub = row["text"].rstrip().removesuffix(row["body"].rstrip()) + "AS ''"
    return AtomicFunction(node.what, row["owner"], row["schema"], row["text"], stub)
