"""Finds keys that no longer open although broker and KMS answer: rows of status(), and envelope.verify_keys()."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.link import Link, not_understood
from pg_envelope.typed import Any

# One request asks the broker to try so many DEKs.
AT_ONCE = 100
SHOWN = 5
DATABASE = "SELECT database_uuid::text AS uuid FROM envelope_private.installation"
VERSIONS = """
SELECT kek, kek_version AS version, count(*) AS count FROM envelope_private.dek
WHERE state <> 'destroyed' AND kek_version IS NOT NULL GROUP BY kek, kek_version ORDER BY kek, kek_version"""
DEK = """
SELECT d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint,
    coalesce(k.name, k.view::text, k.base::text, 'dropped') AS label
FROM envelope_private.dek d JOIN envelope_private.key k USING (key_uuid) WHERE d.state <> 'destroyed'"""
# The newest DEKs that encrypt new values of tables, and a random sample of all DEKs. An index finds both quickly.
SAMPLE = f"""
({DEK} AND d.scope IS NULL AND d.state = 'active' ORDER BY d.dek_id DESC LIMIT 30)
UNION (SELECT o.* FROM (
        SELECT floor(random() * (SELECT max(dek_id) FROM envelope_private.dek))::bigint AS low
        FROM generate_series(1, 20)) r,
    LATERAL ({DEK} AND d.dek_id > r.low ORDER BY d.dek_id LIMIT 1) o)"""
NEXT = f"{DEK} AND d.dek_id > $1 ORDER BY d.dek_id LIMIT {AT_ONCE}"
TOO_OLD = "Lower min_decryption_version in the KMS to the oldest one used here; then CALL envelope.rewrap('<kek>')."
VERIFY = (
    "SELECT * FROM envelope.verify_keys() tries all of them. Do not flush before the KMS has what is missing,"
    " and run pg-envelope keys-backup make."
)
# These errors say that a DEK is lost as things stand. Other errors are a state of the KMS, which has rows of its own.
LOST = (
    errors.UnwrapFailed,
    errors.KeyNotFound,
    errors.KeyDestroyed,
    errors.KekUnknown,
    errors.StoreUnknown,
    errors.KmsInvalid,
)

Problems = dict[int, errors.EnvelopeError]


def checks(host: Host, link: Link, told: wire.Message) -> Iterator[Row]:
    """Rows of status(); `told` is the broker's answer."""
    yield _audit(told.get("audit"))
    yield _reads(told.get("reads"))
    yield _anchor(told.get("reads_anchor"), told.get("reads_signed_at"))
    yield _versions(host, told["keks"])
    yield _sample(host, link)


def verify(host: Host, link: Link) -> Iterator[Row]:
    """Tries all DEKs; a row for each that does not open: dek_id, label, problem, hint."""
    after = 0
    while rows := host.rows(NEXT, ["int8"], [after]):
        problems = _tried(host, link, rows)
        for row in rows:
            if (problem := problems.get(row["dek_id"])) is not None:
                yield {"dek_id": row["dek_id"], "label": row["label"], "problem": problem.said, "hint": problem.hint}
        after = rows[-1]["dek_id"]


def _reads(told: Mapping[str, Any] | None) -> Row:
    if told is None:
        return _row("ledger of reads", "ok", "can be written", None)
    return _row("ledger of reads", "failed", f"audited columns cannot be read: {told['detail']}", told["hint"])


def _anchor(kind: str | None, signed_at: float | None) -> Row:
    """Tells where checkpoints go. The row is always ok: whether an anchor is needed, a person decides."""
    # The broker may be of a version that does not tell it, and what it tells may be no time.
    with suppress(OverflowError, ValueError, OSError):
        last = "none" if signed_at is None else datetime.fromtimestamp(signed_at, UTC).isoformat(timespec="seconds")
        return _row("ledger anchor", "ok", f"anchor: {kind or 'unknown'}; last checkpoint: {last}", None)
    return _row("ledger anchor", "ok", f"anchor: {kind or 'unknown'}; last checkpoint: unknown", None)


def _audit(told: Mapping[str, Any] | None) -> Row:
    if told is None:
        return _row("audit log", "ok", "is written", None)
    state = "failed" if told["state"] == "failed" else "warning"
    return _row("audit log", state, str(told["detail"]), told["hint"])


def _versions(host: Host, keks: Mapping[str, Any]) -> Row:
    """Finds wraps of a KEK version that the KMS does not use any more."""
    found = [
        f"{row['count']} of {row['kek']} version {row['version']}"
        for row in host.rows(VERSIONS)
        if row["version"] < ((keks.get(row["kek"]) or {}).get("oldest") or 0)
    ]
    detail = f"keys under a version that the KMS no longer opens: {', '.join(found) or 'none'}"
    return _row("versions of keks", "failed" if found else "ok", detail, TOO_OLD if found else None)


def _sample(host: Host, link: Link) -> Row:
    rows = host.rows(SAMPLE)
    try:
        problems = _tried(host, link, rows)
    except errors.EnvelopeError as error:
        return _row("keys", "warning", f"not tried: {error.said}", error.hint)
    labels = {row["dek_id"]: row["label"] for row in rows}
    lost = [
        f"{dek_id} ({labels[dek_id]}): {error.said}" for dek_id, error in problems.items() if isinstance(error, LOST)
    ]
    if lost:
        return _row(
            "keys", "failed", f"{len(lost)} of {len(rows)} tried do not open: {'; '.join(lost[:SHOWN])}", VERIFY
        )
    if problems:
        first = next(iter(problems.values()))
        return _row("keys", "warning", f"{len(problems)} of {len(rows)} could not be tried: {first.said}", first.hint)
    return _row("keys", "ok", f"{len(rows)} tried, all open in the KMS", None)


def _tried(host: Host, link: Link, rows: list[Row]) -> Problems:
    """Returns the error of each DEK that does not open, by DEK id, as the broker tells it."""
    installed = host.row(DATABASE)
    if installed is None or not rows:
        return {}
    deks = link.ask("prove", database_uuid=installed["uuid"], deks=[_request(row) for row in rows])["deks"]
    if [dek["dek_id"] for dek in deks] != [row["dek_id"] for row in rows]:
        raise not_understood()
    return {dek["dek_id"]: wire.error_from(dek["error"]) for dek in deks if "error" in dek}


def _request(row: Row) -> wire.Message:
    return {
        **{name: row[name] for name in ("dek_id", "kek", "store", "wrapped")},
        "fingerprint": wire.to_base64(row["fingerprint"]),
    }


def _row(name: str, state: str, detail: str, hint: str | None) -> Row:
    return {"check_name": name, "state": state, "detail": detail, "hint": hint}
