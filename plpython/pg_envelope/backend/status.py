"""envelope.status(): one row per check, each with state, detail and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors, wire
from pg_envelope._version import VERSION
from pg_envelope.backend import fips_status, kek_age, tls_status, unreadable
from pg_envelope.backend.catalog_checks import CHECKS
from pg_envelope.backend.faults import ON_PURPOSE
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle import environment, replay, same_kek
from pg_envelope.backend.lifecycle.schedule import tell_overdue
from pg_envelope.backend.link import Link
from pg_envelope.backend.search import functions
from pg_envelope.backend.tables.trial import Trials

# The share of all key ids that a header can name.
WARNED_AT, FAILED_AT = 0.5, 0.9
STATE_OF_KEK = {"ok": "ok", "degraded": "warning"}
EXTENSION = "SELECT extversion AS version FROM pg_catalog.pg_extension WHERE extname = 'pg_envelope'"
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
NEWEST = "SELECT kek, max(kek_version) AS version FROM envelope_private.dek WHERE state <> 'destroyed' GROUP BY kek"
KEY_IDS = """
SELECT coalesce(pg_sequence_last_value(seqrelid), 0) AS used, seqmax AS ids
FROM pg_catalog.pg_sequence WHERE seqrelid = 'envelope_private.key_id_seq'::regclass"""
PGCRYPTO = """
SELECT (SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = 'envelope_pgcrypto'::regnamespace) AS functions,
    EXISTS (SELECT FROM envelope_private.pgcrypto_setting WHERE literal_keys_forbidden) AS forbidden"""


class Status:
    """Makes the checks, in the order in which a person would make them."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host = host
        self._link = link

    def rows(self) -> list[Row]:
        """Returns rows of check_name, state (ok, warning, failed), detail, hint."""
        tried = Trials(self._host).checks
        parts = (
            self._versions,
            self._broker,
            self._catalog,
            self._key_ids,
            tried,
            self._verified,
            self._pgcrypto,
            self._functions,
        )
        return [row for part in parts for row in part()]

    def _functions(self) -> Iterator[Row]:
        for row in functions.changed(self._host):
            yield _row(
                "search function",
                "warning",
                f"{row['relation']}: {row['function']} has changed; tokens are still those of its copy",
                "envelope.rotate_search(table, column, normalizer => 'schema.function') makes tokens by the new one.",
            )

    def _versions(self) -> Iterator[Row]:
        installed = self._host.row(EXTENSION)
        extension, package = installed and installed["version"], VERSION
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
            yield fips_status.check(None)
            yield from tls_status.checks(self._host, {})
            return
        yield from self._answered(answer)

    def _answered(self, answer: wire.Message) -> Iterator[Row]:
        mine, theirs = VERSION, str(answer["version"])
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
        yield fips_status.check(answer.get("fips"))
        yield from tls_status.checks(self._host, answer["keks"])
        yield kek_age.check(used, answer["keks"])

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
        for check in CHECKS:
            row = self._host.row(check.query)
            found = row["found"] if row and row["count"] else None
            yield _row(check.name, check.state if found else "ok", f"{check.what}: {found or 'none'}", check.hint)

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

    def _key_ids(self) -> Iterator[Row]:
        row = self._host.row(KEY_IDS)
        assert row is not None
        used, state = row["used"] / row["ids"], "ok"
        if used > WARNED_AT:
            state = "failed" if used > FAILED_AT else "warning"
        detail = f"{row['used']:,} of {row['ids']:,} are used"
        yield _row("key ids", state, detail, "Who uses them up? Each new tenant or subject takes one: docs/scopes.md.")


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
