"""Finds whose code a read of a protected column runs. A proof lets nobody's code run with the rights of another role.

PostgreSQL runs more than the view says: row policies, CHECKs of domains, and, when it plans, what it can compute
beforehand in the expressions of indexes, statistics and constraints. Expressions are known by their node trees, because
PostgreSQL records no use of its own functions.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import commas

# $1 are the view and its base table. `met` grows by what a thing has, by what it uses, and by its expressions.
MET = """
WITH RECURSIVE met (class, oid, tree) AS (
    SELECT 'pg_class'::regclass, r.oid, NULL::text COLLATE "C" FROM unnest($1) r (oid)
    UNION
    SELECT n.* FROM met m CROSS JOIN LATERAL (
        SELECT 'pg_rewrite'::regclass, w.oid, concat(w.ev_qual, w.ev_action) FROM pg_rewrite w
            WHERE m.class = 'pg_class'::regclass AND w.ev_class = m.oid
        UNION ALL SELECT 'pg_policy'::regclass, p.oid, concat(p.polqual, p.polwithcheck) FROM pg_policy p
            WHERE m.class = 'pg_class'::regclass AND p.polrelid = m.oid
        UNION ALL SELECT 'pg_index'::regclass, i.indexrelid, concat(i.indexprs, i.indpred) FROM pg_index i
            WHERE m.class = 'pg_class'::regclass AND i.indrelid = m.oid
        UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, s.stxexprs::text FROM pg_statistic_ext s
            WHERE m.class = 'pg_class'::regclass AND s.stxrelid = m.oid
        UNION ALL SELECT 'pg_constraint'::regclass, c.oid, c.conbin::text FROM pg_constraint c
            WHERE m.class = 'pg_class'::regclass AND c.conrelid = m.oid
                OR m.class = 'pg_type'::regclass AND c.contypid = m.oid
        UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, d.adbin::text FROM pg_attrdef d
            JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
            WHERE m.class = 'pg_class'::regclass AND d.adrelid = m.oid
        UNION ALL SELECT 'pg_class'::regclass, h.inhrelid, NULL FROM pg_inherits h
            WHERE m.class = 'pg_class'::regclass AND h.inhparent = m.oid
        UNION ALL SELECT 'pg_type'::regclass, a.atttypid, NULL FROM pg_attribute a
            WHERE m.class = 'pg_class'::regclass AND a.attrelid = m.oid AND a.attnum > 0
        UNION ALL SELECT v.class, v.oid, NULL FROM pg_type t, LATERAL (VALUES
                ('pg_type'::regclass, t.typbasetype), ('pg_type'::regclass, t.typelem),
                ('pg_class'::regclass, t.typrelid)) v (class, oid)
            WHERE m.class = 'pg_type'::regclass AND t.oid = m.oid AND v.oid <> 0
        UNION ALL SELECT v.class, v.oid, NULL FROM pg_range r, LATERAL (VALUES
                ('pg_type'::regclass, r.rngsubtype), ('pg_proc'::regclass, r.rngcanonical::oid),
                ('pg_proc'::regclass, r.rngsubdiff::oid)) v (class, oid)
            WHERE m.class = 'pg_type'::regclass AND r.rngtypid = m.oid AND v.oid <> 0
        UNION ALL SELECT 'pg_proc'::regclass, o.oprcode::oid, NULL FROM pg_operator o
            WHERE m.class = 'pg_operator'::regclass AND o.oid = m.oid
        UNION ALL SELECT d.refclassid, d.refobjid, NULL FROM pg_depend d
            WHERE d.classid = m.class AND d.objid = m.oid AND d.refclassid IN (
                'pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
        UNION ALL SELECT 'pg_proc'::regclass, f.found[1]::oid, NULL
            FROM regexp_matches(m.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([1-9][0-9]*)', 'g') f (found)
        UNION ALL SELECT 'pg_operator'::regclass, o.number::oid, NULL
            FROM regexp_matches(m.tree, ':opnos? (?:\\(o )?([0-9 ]+)', 'g') f (found),
                regexp_split_to_table(f.found[1], ' +') o (number) WHERE o.number ~ '[1-9]') n)"""
RELATIONS = f"""{MET}
SELECT c.oid, format('%I.%I', s.nspname, c.relname) AS name FROM met m
JOIN pg_class c ON m.class = 'pg_class'::regclass AND c.oid = m.oid AND c.relkind IN ('r', 'p', 'v')
JOIN pg_namespace s ON s.oid = c.relnamespace
ORDER BY c.oid"""
# Whoever owns a function or a domain that is met can have it do what he likes. 0 is nobody: a volatile function, such
# as setval() or pg_read_file(), does as it is told by whoever wrote the expression, and PostgreSQL locks neither
# foreign tables nor materialized views. Who inherits a role's rights has them already.
ROLES = f"""{MET},
author (role) AS (
    SELECT CASE WHEN r.rolsuper THEN 0::oid ELSE p.proowner END
    FROM met m JOIN pg_proc p ON m.class = 'pg_proc'::regclass AND p.oid = m.oid JOIN pg_roles r ON r.oid = p.proowner
    WHERE NOT r.rolsuper OR p.provolatile = 'v'
    UNION SELECT t.typowner
    FROM met m JOIN pg_type t ON m.class = 'pg_type'::regclass AND t.oid = m.oid JOIN pg_roles r ON r.oid = t.typowner
    WHERE t.typtype = 'd' AND NOT r.rolsuper
    UNION SELECT 0::oid FROM met m JOIN pg_class c ON m.class = 'pg_class'::regclass AND c.oid = m.oid
    WHERE c.relkind = 'f' OR c.relkind = 'm' AND c.relnamespace <> 'envelope_private'::regnamespace)
SELECT r.oid FROM pg_roles r WHERE NOT EXISTS (
    SELECT FROM author a WHERE a.role = 0 OR NOT pg_has_role(a.role, r.oid, 'USAGE'))"""
# It keeps everybody from adding policies, indexes, statistics and constraints, and nobody from reading and writing.
LOCK = "LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"
# The read names the relations. A schema that were renamed could hand their names to others.
KEEP_SCHEMAS = """
SELECT FROM pg_namespace n WHERE n.oid IN (SELECT relnamespace FROM pg_class WHERE oid = ANY ($1))
FOR SHARE NOWAIT"""
BASE = "SELECT base, current_user::regrole::oid AS role FROM envelope_private.protected_table WHERE view = $1"
BUSY = ("55P03", "55000")


def harmless_roles(host: Host, view: int, base: int) -> frozenset[int]:
    """Returns the roles as which a read of the view runs code of nobody who does not have their rights already.

    What was found stays as it is until the transaction ends. Returns no role while others hold locks, and on a standby.
    """
    before = host.rows(RELATIONS, ["oid[]"], [[view, base]])
    if not _locked(host, before) or host.rows(RELATIONS, ["oid[]"], [[view, base]]) != before:
        return frozenset()
    return frozenset(int(row["oid"]) for row in host.rows(ROLES, ["oid[]"], [[view, base]]))


def is_harmless(host: Host, view: int) -> bool:
    """Tells whether the current role is such a role. Of a relation that is no view of a protected table it is False."""
    row = host.row(BASE, ["oid"], [view])
    return row is not None and int(row["role"]) in harmless_roles(host, view, row["base"])


def _locked(host: Host, relations: list[Row]) -> bool:
    try:
        with host.subtransaction():
            host.run(LOCK.format(commas(row["name"] for row in relations)))
            host.rows(KEEP_SCHEMAS, ["oid[]"], [[row["oid"] for row in relations]])
    except Exception as error:
        if getattr(error, "sqlstate", None) not in BUSY:
            raise
        return False
    return True
