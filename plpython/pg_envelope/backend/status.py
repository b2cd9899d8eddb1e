"""envelope.status(): one row per check, each with state, detail and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from pg_envelope import errors, wire
from pg_envelope.backend import logged, unreadable
from pg_envelope.backend.budget import BLOCK, SOFT_LIMIT
from pg_envelope.backend.faults import ON_PURPOSE
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle import environment, replay, same_kek, sequences
from pg_envelope.backend.lifecycle.schedule import OVERDUE, tell_overdue
from pg_envelope.backend.link import Link
from pg_envelope.backend.tables.trial import Trials
from pg_envelope.backend.tables.whole import IS_FOUND

# The share of all key ids that a header can name.
WARNED_AT, FAILED_AT = 0.5, 0.9
# A key is renewed at the soft limit, by its next write. Beyond the limit, something stands in the way.
WARNED_MESSAGES = SOFT_LIMIT * BLOCK * 5 // 4
STATE_OF_KEK = {"ok": "ok", "degraded": "warning"}
ROTATE = (
    "After logical replication: SELECT envelope.mend_sequences(). Otherwise: SELECT envelope.rotate('<table>'), or"
    " envelope.rotate_key('<name>')."
)
REFRESH = "CALL envelope.refresh('<table>')"

EXTENSION = "SELECT extversion AS version FROM pg_catalog.pg_extension WHERE extname = 'pg_envelope'"
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
# A table that was verified and is gone counts for nothing.
VERIFIED = """
SELECT count(*) AS tables, count(*) FILTER (WHERE v.finished_at IS NULL) AS never,
    (SELECT format('%s, %s: %s values', date_trunc('second', l.finished_at), l.relation, l.value_count)
     FROM envelope.verifications l WHERE l.finished_at IS NOT NULL ORDER BY l.finished_at DESC LIMIT 1) AS last,
    string_agg(format('%s of %s in %s (%s)', b.bad, v.value_count, t.view_name, date_trunc('second', v.began_at)), ', '
        ORDER BY t.view_name) FILTER (WHERE b.bad > 0) AS bad
FROM envelope_private.protected_table t LEFT JOIN envelope_private.verification v USING (key_uuid)
LEFT JOIN LATERAL (SELECT sum(n::bigint) AS bad FROM jsonb_each_text(v.faults) AS e (reason, n)
    WHERE e.reason <> ALL ($1)) b ON true"""
VERIFY_HINT = "See envelope.faults and docs/runbooks/bad-values.md; afterwards CALL envelope.verify() again."
# The right is asked as PostgreSQL does for the view, because a policy may name the owner itself.
RESTORED = """
SELECT string_agg(DISTINCT restored::regclass::text, ', ') AS found, count(restored) AS count
FROM envelope_private.lost_table JOIN pg_catalog.pg_class c ON c.oid = restored AND c.relname LIKE '%\\_encrypted'"""
CAPABILITIES = """
SELECT string_agg(p.label, ', ') AS found, count(*) AS count
FROM envelope_private.protected_column p LEFT JOIN envelope_private.capability c USING (field_uuid)
JOIN pg_catalog.pg_class b ON b.oid = p.base JOIN pg_catalog.pg_roles o ON o.oid = b.relowner
WHERE c.seal IS NULL OR NOT o.rolsuper AND NOT (
    pg_catalog.has_table_privilege(o.oid, 'envelope_private.capability', 'SELECT')
    AND EXISTS (SELECT FROM pg_catalog.pg_policy y
                WHERE y.polrelid = 'envelope_private.capability'::regclass AND y.polroles = ARRAY[o.oid]))"""
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
NEWEST = "SELECT kek, max(kek_version) AS version FROM envelope_private.dek WHERE state <> 'destroyed' GROUP BY kek"
KEY_IDS = """
SELECT coalesce(pg_sequence_last_value(seqrelid), 0) AS used, seqmax AS ids
FROM pg_catalog.pg_sequence WHERE seqrelid = 'envelope_private.key_id_seq'::regclass"""
PGCRYPTO = """
SELECT (SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = 'envelope_pgcrypto'::regnamespace) AS functions,
    EXISTS (SELECT FROM envelope_private.pgcrypto_setting WHERE literal_keys_forbidden) AS forbidden"""
COPIES = """
SELECT string_agg(DISTINCT w.ev_class::regclass::text, ', ') AS found, count(DISTINCT w.ev_class) AS count
FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
JOIN pg_catalog.pg_class m ON m.oid = w.ev_class AND m.relkind = 'm'
JOIN envelope_private.protected_column p ON p.view = d.refobjid
    AND d.refobjsubid = (SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = p.view AND attname = p.attname)"""

PUBLICATIONS = """
SELECT string_agg(found, '; ' ORDER BY found) AS found, count(*) AS count FROM (
    SELECT format('%s publishes capabilities', publication) AS found FROM envelope_private.published WHERE is_capability
    UNION ALL SELECT format('%s publishes %s without its keys', publication, relation)
    FROM envelope_private.published WHERE is_protected AND NOT EXISTS (
        SELECT FROM envelope_private.published WHERE relation = 'envelope_private.field_key'::regclass)) AS problem"""


class Status:
    """Makes the checks, in the order in which a person would make them."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host = host
        self._link = link

    def rows(self) -> list[Row]:
        """Returns rows of check_name, state (ok, warning, failed), detail, hint."""
        parts = (self._versions, self._broker, self._catalog, Trials(self._host).checks, self._verified, self._pgcrypto)
        return [row for part in parts for row in part()]

    def _versions(self) -> Iterator[Row]:
        installed = self._host.row(EXTENSION)
        extension, package = installed and installed["version"], version("pg-envelope")
        yield _row(
            "versions",
            "ok" if extension == package else "failed",
            f"extension {extension}, package {package}",
            "Run 'make install' on the server, then ALTER EXTENSION pg_envelope UPDATE.",
        )

    def _broker(self) -> Iterator[Row]:
        try:
            answer = self._link.ask("status", look=True)
        except errors.EnvelopeError as error:
            yield _row("broker", "failed", error.message, error.hint)
            return
        yield from self._answered(answer)

    def _answered(self, answer: wire.Message) -> Iterator[Row]:
        mine, theirs = version("pg-envelope"), str(answer["version"])
        yield _row(
            "broker",
            "ok" if mine == theirs else "warning",
            f"version {theirs}, environment {answer['environment']}, epoch {answer['epoch']}",
            "Broker and server have different versions: restart the broker after an update.",
        )
        yield environment.check(self._host, answer)
        tell_overdue(self._host, self._link)
        used = {row["kek"] for row in self._host.rows("SELECT DISTINCT kek FROM envelope_private.key")}
        newest = {row["kek"]: row["version"] for row in self._host.rows(NEWEST)}
        for name in sorted(used | set(newest) | set(answer["keks"])):
            yield self._kek(name, answer["keks"].get(name), newest.get(name) or 0)
        yield from replay.check(self._host, self._link)
        yield from unreadable.checks(self._host, self._link, answer)

    def _kek(self, name: str, told: Row | None, newest: int) -> Row:
        """Returns the row of one KEK. `newest` is the KEK's newest version in the catalog: a KMS that went back in time
        opens nothing.
        """
        return _rolled_back(name, told, newest) or self._another(name) or _kek(name, told)

    def _another(self, kek: str) -> Row | None:
        """Returns a row when the KEK cannot open what it wrapped. `_kek` tells whether the KEK can be used at all."""
        here = self._host.row(environment.INSTALLATION)
        if here is None:
            return None
        try:
            same_kek.check(self._host, self._link, kek, {"database_uuid": here["uuid"]})
        except same_kek.AnotherKek as error:
            return _row(f"kek {kek}", "failed", f"{error.message}. {error.detail}", error.hint)
        except errors.EnvelopeError:
            return None
        return None

    def _catalog(self) -> Iterator[Row]:
        yield self._none(
            "plaintext", PLAINTEXT, "failed", "columns that hold plaintext", "Restore or protect them again."
        )
        yield self._none(
            "catalog", PARENTS, "failed", "rows without their parent", "Restore the key catalog from a whole dump."
        )
        yield self._none("columns", MISSING, "failed", "protected columns that are not found", REFRESH)
        yield self._none("views", VIEWS, "failed", "tables whose view, triggers or owner differ", REFRESH)
        yield self._none(
            "restored",
            RESTORED,
            "failed",
            "tables that were dropped and restored, and that the catalog does not know",
            "CALL envelope.adopt_restored('<table>'); see docs/runbooks/restore.md.",
        )
        yield self._none(
            "capabilities", CAPABILITIES, "failed", "columns without capability", "SELECT envelope.renew_capabilities()"
        )
        yield self._none(
            "owners",
            BYPASSES,
            "failed",
            "owners with BYPASSRLS, who read all capabilities",
            "ALTER ROLE ... NOBYPASSRLS",
        )
        yield self._none(
            "compromised",
            COMPROMISED,
            "warning",
            "key versions that are compromised",
            "CALL envelope.reencrypt('<table>') leaves no value under them; see docs/runbooks/emergency.md.",
        )
        yield self._none(
            "suspended",
            SUSPENDED,
            "warning",
            "keys that are suspended, so that nobody reads or writes",
            "To make them usable again: CALL envelope.unsuspend('<table>', '<tenant>') or unsuspend_key('<name>').",
        )
        yield self._none(
            "schedule", OVERDUE, "warning", "keys that are overdue", "CALL envelope.rotate_due(); see envelope.due."
        )
        yield self._none("budget", BUDGET, "warning", "keys that sealed too much or lost their count", ROTATE)
        yield self._none(
            "sequences",
            sequences.BEHIND,
            "warning",
            "sequences that are behind their tables",
            "SELECT envelope.mend_sequences(); see docs/runbooks/cut-over.md.",
        )
        yield self._key_ids()
        yield self._none(
            "copies",
            COPIES,
            "warning",
            "materialized views that store decrypted columns",
            "Drop them, or protect what they hold.",
        )

        yield self._none(
            "publications",
            PUBLICATIONS,
            "warning",
            "publications whose subscribers get too much or too little",
            "See docs/logical-replication.md; SELECT envelope.publish_keys('<publication>') adds the keys.",
        )
        yield self._none(
            "logging", logged.VALUES, "warning", "settings by which values reach the server's log", logged.HINT
        )

    def _verified(self) -> Iterator[Row]:
        """Tells what the last verify of each table found. A table that nobody has verified yet is no warning."""
        row = self._host.row(VERIFIED, ["text[]"], [list(ON_PURPOSE)])
        assert row is not None
        told = [f"values that did not open: {row['bad'] or 'none'}"]
        told += [f"last: {row['last']}"] if row["last"] else []
        told += [f"tables never verified: {row['never']} of {row['tables']}"] if row["never"] else []
        yield _row("verify", "failed" if row["bad"] else "ok", "; ".join(told), VERIFY_HINT)

    def _pgcrypto(self) -> Iterator[Row]:
        row = self._host.row(PGCRYPTO)
        assert row is not None
        rule = "forbidden" if row["forbidden"] else "allowed"
        yield _row(
            "pgcrypto",
            "ok" if row["functions"] else "warning",
            f"{row['functions']} functions in envelope_pgcrypto; literal keys {rule}",
            "Install PostgreSQL's contrib modules on the server, then make the extension again.",
        )

    def _key_ids(self) -> Row:
        row = self._host.row(KEY_IDS)
        assert row is not None
        used, state = row["used"] / row["ids"], "ok"
        if used > WARNED_AT:
            state = "failed" if used > FAILED_AT else "warning"
        detail = f"{row['used']:,} of {row['ids']:,} are used"
        return _row("key ids", state, detail, "Who uses them up? Each new tenant or subject takes one: docs/scopes.md.")

    def _none(self, name: str, query: str, otherwise: str, what: str, hint: str) -> Row:
        row = self._host.row(query)
        found = row["found"] if row and row["count"] else None
        return _row(name, otherwise if found else "ok", f"{what}: {found or 'none'}", hint)


def _rolled_back(name: str, told: Row | None, newest: int) -> Row | None:
    if told is None or told.get("version") is None or told["version"] >= newest:
        return None
    behind = errors.KekRolledBack()
    detail = f"{told['provider']}: {behind.message} (version {told['version']} there, {newest} here)"
    return _row(f"kek {name}", "failed", detail, behind.hint)


def _kek(name: str, told: Row | None) -> Row:
    if told is None:
        hint = f"Declare [kek.{name}] in the broker's configuration."
        return _row(f"kek {name}", "failed", "used here, but unknown to the broker", hint)
    detail = f"{told['provider']}: {told['detail'] or told['state']}"
    if told["state"] == "ok" and told.get("deletable") is True:
        return _row(f"kek {name}", "warning", f"{detail}; it may be deleted", "See docs/providers.md.")
    return _row(f"kek {name}", STATE_OF_KEK.get(told["state"], "failed"), detail, told["hint"])


def _row(name: str, state: str, detail: str, hint: str | None) -> Row:
    return {"check_name": name, "state": state, "detail": detail, "hint": None if state == "ok" else hint}
