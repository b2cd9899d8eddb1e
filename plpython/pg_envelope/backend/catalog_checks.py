"""Lists the checks of envelope.status() that are one query over the catalogs each.

A query gives one row: `count` of the objects with a problem, and their names as one text `found`.
"""

from __future__ import annotations

from pg_envelope.backend import logged
from pg_envelope.backend.budget import BLOCK, SOFT_LIMIT
from pg_envelope.backend.lifecycle import sequences
from pg_envelope.backend.lifecycle.schedule import OVERDUE
from pg_envelope.backend.tables import heaps
from pg_envelope.backend.tables.dependents import copies
from pg_envelope.backend.tables.whole import IS_FOUND
from pg_envelope.typed import NamedTuple

# A key is renewed at the soft limit, by its next write. Beyond the limit, something stands in the way.
WARNED_MESSAGES = SOFT_LIMIT * BLOCK * 5 // 4
ROTATE = (
    "After logical replication: SELECT envelope.mend_sequences(). Otherwise: SELECT envelope.rotate('<table>'), or"
    " envelope.rotate_key('<name>')."
)
REFRESH = "CALL envelope.refresh('<table>')"
PLAINTEXT = """
SELECT string_agg(label, ', ' ORDER BY label) AS found, count(*) AS count FROM envelope_private.protected_column
WHERE NOT is_ciphertext"""
VIEWS = """
SELECT string_agg(t.base::regclass::text, ', ') AS found, count(*) AS count FROM envelope_private.protected_table t
WHERE NOT intact"""
MISSING = f"""
SELECT string_agg(coalesce(t.view_name, t.base::regclass::text) || '.' || f.attname, ', ' ORDER BY t.base, f.attnum)
    AS found, count(*) AS count
FROM envelope_private.protected_table t JOIN envelope_private.field f USING (key_uuid)
WHERE NOT {IS_FOUND}"""
RESTORED = """
SELECT string_agg(DISTINCT restored::regclass::text, ', ') AS found, count(restored) AS count
FROM envelope_private.lost_table JOIN pg_catalog.pg_class c ON c.oid = restored AND c.relname LIKE '%\\_encrypted'"""
CAPABILITIES = """
SELECT string_agg(p.label, ', ') AS found, count(*) AS count
FROM envelope_private.protected_column p LEFT JOIN envelope_private.capability c USING (field_uuid)
JOIN pg_catalog.pg_class b ON b.oid = p.base JOIN pg_catalog.pg_roles o ON o.oid = b.relowner
WHERE c.seal IS NULL OR NOT o.rolsuper AND o.oid NOT IN (SELECT a.role FROM envelope_private.allowed_owners() a)"""
BYPASSES = """
SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) AS found, count(*) AS count FROM pg_catalog.pg_roles r
WHERE r.rolbypassrls AND NOT r.rolsuper AND has_table_privilege(r.oid, 'envelope_private.capability', 'SELECT')"""
PARENTS = """
SELECT string_agg(what, ', ' ORDER BY what) AS found, count(*) AS count FROM (
    SELECT 'all: the row of envelope_private.installation is gone' AS what
        WHERE EXISTS (SELECT FROM envelope_private.dek) AND NOT EXISTS (SELECT FROM envelope_private.installation)
    UNION ALL SELECT 'dek ' || dek_id FROM envelope_private.dek c
        WHERE NOT EXISTS (SELECT FROM envelope_private.key p WHERE p.key_uuid = c.key_uuid)
    UNION ALL SELECT 'field ' || field_uuid FROM envelope_private.field c
        WHERE NOT EXISTS (SELECT FROM envelope_private.key p WHERE p.key_uuid = c.key_uuid)
    UNION ALL SELECT 'key id ' || key_id FROM envelope_private.field_key c
        WHERE c.field_uuid IS NOT NULL
                AND NOT EXISTS (SELECT FROM envelope_private.field p WHERE p.field_uuid = c.field_uuid)
            OR NOT EXISTS (SELECT FROM envelope_private.dek p WHERE p.dek_id = c.dek_id)) AS orphan"""
ROLLOUTS = """
SELECT string_agg(format('%s (%s)', coalesce(view_name, base::regclass::text),
        CASE rollout WHEN 'tokens' THEN 'protect' ELSE rollout END), ', ' ORDER BY view_name)
    AS found, count(*) AS count
FROM envelope_private.protected_table WHERE rollout IS NOT NULL"""
RESIDUE = f"""
SELECT string_agg(h.oid::regclass::text, ', ' ORDER BY h.oid::regclass::text) AS found, count(*) AS count
FROM envelope_private.protected_table t CROSS JOIN LATERAL ({heaps.of("t.base")}) h
WHERE pg_relation_filenode(h.oid) = ANY (t.residue)"""
COMPROMISED = """
SELECT string_agg(format('%s version %s', coalesce(k.name, k.view::text, k.base::text), d.version), ', '
        ORDER BY k.created_at, d.version) AS found, count(*) AS count
FROM envelope_private.dek d JOIN envelope_private.key k USING (key_uuid)
WHERE d.state = 'compromised' AND coalesce(k.name, k.view::text, k.base::text) IS NOT NULL"""
# A retired version waits in state suspended, too. No value needs it, so it is not reported.
SUSPENDED = """
SELECT string_agg(format('%s (%s)', label, scopes), ', ' ORDER BY label) AS found, count(*) AS count FROM (
    SELECT coalesce(k.name, k.view::text, k.base::text, 'dropped') AS label,
        CASE k.scope WHEN 'tenant' THEN string_agg(DISTINCT d.scope, ', ' ORDER BY d.scope)
            ELSE 'DEKs: ' || count(*) END AS scopes
    FROM envelope_private.dek d JOIN envelope_private.key k USING (key_uuid)
    WHERE d.state = 'suspended' AND NOT d.is_retired GROUP BY k.key_uuid) AS suspended"""
BUDGET = f"""
SELECT string_agg(label, ', ' ORDER BY label) AS found, count(*) AS count FROM envelope_private.budget
WHERE lost OR messages > {WARNED_MESSAGES}"""
# A rule without its part of the view shows values, and the other way round the view shows nothing.
MASKS = """
SELECT string_agg(c.label, ', ' ORDER BY c.label) AS found, count(*) AS count
FROM (SELECT t.key_uuid, pg_get_viewdef(t.view) AS text FROM envelope_private.protected_table t
    WHERE NOT t.by_role AND (EXISTS (
            SELECT FROM envelope_private.mask m JOIN envelope_private.field f USING (field_uuid)
            WHERE f.key_uuid = t.key_uuid) OR EXISTS (
            SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            WHERE w.ev_class = t.view AND d.refclassid = 'pg_proc'::regclass
                AND d.refobjid = 'envelope_internal.mask_of(uuid,name)'::regprocedure)) OFFSET 0) v
JOIN envelope_private.protected_column c USING (key_uuid)
WHERE EXISTS (SELECT FROM envelope_private.mask m WHERE m.field_uuid = c.field_uuid)
    <> (v.text ~ ('envelope_internal\\.mask_of\\([^)]*' || c.field_uuid))"""
PUBLICATIONS = """
SELECT string_agg(found, '; ' ORDER BY found) AS found, count(*) AS count FROM (
    SELECT format('%s publishes capabilities', publication) AS found FROM envelope_private.published WHERE is_capability
    UNION ALL SELECT format('%s publishes %s without its keys', publication, relation)
    FROM envelope_private.published WHERE is_protected AND NOT EXISTS (
        SELECT FROM envelope_private.published WHERE relation = 'envelope_private.field_key'::regclass)) AS problem"""


class CatalogCheck(NamedTuple):
    """One check: `state` (warning or failed) is its state when the query finds objects, and `what` names their kind."""

    name: str
    state: str
    what: str
    query: str
    hint: str


CHECKS = (
    CatalogCheck("plaintext", "failed", "columns that hold plaintext", PLAINTEXT, "Restore or protect them again."),
    CatalogCheck(
        "catalog", "failed", "rows without their parent", PARENTS, "Restore the key catalog from a whole dump."
    ),
    CatalogCheck(
        "online",
        "warning",
        "tables between plain and protected",
        ROLLOUTS,
        "Call protect or unprotect again with online => true: docs/online.md. After adopt: docs/adopt.md.",
    ),
    CatalogCheck(
        "residue",
        "warning",
        "tables whose dead rows still hold plaintext",
        RESIDUE,
        "VACUUM FULL <table>, or pg_repack while the table is in use. See docs/online.md.",
    ),
    CatalogCheck("columns", "failed", "protected columns that are not found", MISSING, REFRESH),
    CatalogCheck("views", "failed", "tables whose view, triggers or owner differ", VIEWS, REFRESH),
    CatalogCheck(
        "masks",
        "failed",
        "columns whose view and rules of masks differ",
        MASKS,
        "Set the rules that shall hold, then CALL envelope.refresh('<table>'). Without rules the view shows values.",
    ),
    CatalogCheck(
        "restored",
        "failed",
        "tables that were dropped and restored, and that the catalog does not know",
        RESTORED,
        "CALL envelope.adopt_restored('<table>'); see docs/runbooks/restore.md.",
    ),
    CatalogCheck(
        "capabilities",
        "failed",
        "columns without capability",
        CAPABILITIES,
        "SELECT envelope.renew_capabilities()",
    ),
    CatalogCheck(
        "owners",
        "failed",
        "owners with BYPASSRLS, who read all capabilities",
        BYPASSES,
        "ALTER ROLE ... NOBYPASSRLS",
    ),
    CatalogCheck(
        "compromised",
        "warning",
        "key versions that are compromised",
        COMPROMISED,
        "CALL envelope.reencrypt('<table>') leaves no value under them; see docs/runbooks/emergency.md.",
    ),
    CatalogCheck(
        "suspended",
        "warning",
        "keys that are suspended, so that nobody reads or writes",
        SUSPENDED,
        "To make them usable again: CALL envelope.unsuspend('<table>', '<tenant>') or unsuspend_key('<name>').",
    ),
    CatalogCheck(
        "schedule", "warning", "keys that are overdue", OVERDUE, "CALL envelope.rotate_due(); see envelope.due."
    ),
    CatalogCheck("budget", "warning", "keys that sealed too much or lost their count", BUDGET, ROTATE),
    CatalogCheck(
        "sequences",
        "warning",
        "sequences that are behind their tables",
        sequences.BEHIND,
        "SELECT envelope.mend_sequences(); see docs/runbooks/cut-over.md.",
    ),
    CatalogCheck(
        "copies",
        "warning",
        "materialized views that store decrypted columns",
        copies.OF_ALL,
        "Drop them, or protect what they hold.",
    ),
    CatalogCheck(
        "publications",
        "warning",
        "publications whose subscribers get too much or too little",
        PUBLICATIONS,
        "See docs/logical-replication.md; SELECT envelope.publish_keys('<publication>') adds the keys.",
    ),
    CatalogCheck("logging", "warning", "settings by which values reach the server's log", logged.VALUES, logged.HINT),
)
