"""Makes the receipt of a re-encryption: a count of all headers that finds no old one, signed by the broker and kept
here.

Where values are left that do not open, the receipt says how many and why, and claims nothing for their column.
"""

from __future__ import annotations

from collections import Counter

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.jobs.stale import Stale, stale
from pg_envelope.backend.lifecycle.signing import Signing
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import whole
from pg_envelope.backend.tables.generate import Layout, stored
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.typed import Any

# Read before the scan: a rotation meanwhile makes newer versions than these, and no older ones.
NEWEST = """
SELECT f.field_uuid, fk.version FROM envelope_private.field f JOIN envelope_private.field_key fk USING (field_uuid)
WHERE f.key_uuid = $1 AND fk.state = 'active'"""
# Read after the scan, so that the receipt holds for every server that has replayed as much.
WHERE_AND_WHEN = """
SELECT pg_current_wal_insert_lsn()::text AS lsn, to_char(clock_timestamp() AT TIME ZONE 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS finished_at"""
VERSIONS = """
SELECT fk.key_id, fk.version, CASE d.state WHEN 'destroyed' THEN d.state ELSE fk.state END AS state
FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id) WHERE fk.key_id = ANY ($1)"""
KEEP = """
INSERT INTO envelope_private.receipt (key_uuid, statement, signature, public_key) VALUES ($1, $2, $3, $4)"""
SAME_TABLE = "SELECT to_regclass($1)::oid = $2 AS same"


class Missing(errors.Unavailable):
    """The re-encryption is complete, but its receipt could not be signed."""


class Receipts:
    """Makes the receipts of one table."""

    def __init__(self, host: Host, owner: AsOwner, layout: Layout, key: Row) -> None:
        self._host, self._owner, self._layout, self._key = host, owner, layout, key

    def scan(self) -> dict[str, Any] | None:
        """Returns the receipt's statement, or None when there are old envelopes that open. It needs a transaction of
        its own.

        It lists the values that are left in the same transaction. Raises ColumnMissing, where a column is not found.
        """
        self._same_table()
        whole.refuse_missing(self._host, self._key, self._layout)
        newest = self._host.rows(NEWEST, ["uuid"], [self._key["key_uuid"]])
        versions = {row["field_uuid"]: row["version"] for row in newest}
        old, groups = faulty.despite(self._groups)
        if any(group["old"] for group in groups):
            return None
        fields = [self._field(*field, groups, versions) for field in enumerate(self._layout.protected)]
        left = sum(sum(field["left"].values()) for field in fields)
        self._list(old, left)
        made = self._host.row(WHERE_AND_WHEN)
        assert made is not None
        return {
            "what": "reencrypt",
            "relation": self._key["view_name"],
            "key": str(self._key["key_uuid"]),
            "rows": sum(group["rows"] for group in groups),
            "left": left,
            "fields": fields,
            "lsn": made["lsn"],
            "finished_at": made["finished_at"],
        }

    def keep(self, signing: Signing, statement: dict[str, Any]) -> str:
        """Lets the broker sign the statement, and stores it. Returns its text. Raises Missing, with a hint at what to
        do later.
        """
        try:
            signed = signing.sign(statement)
        except errors.EnvelopeError as error:
            hint = f"When that is mended: SELECT envelope.receipt({literal(self._layout.view)})"
            raise Missing(
                f"no value of {self._layout.view} that opens is under an old key, but the receipt could not be signed",
                detail=error.message,
                hint=hint,
            ) from None
        kept = [self._key["key_uuid"], signed.text, signed.signature, signed.public_key]
        self._host.rows(KEEP, ["uuid", "text", "text", "text"], kept)
        return signed.text

    def _groups(self, careful: bool) -> tuple[Stale, list[Row]]:
        old = stale(self._host, self._layout, self._key, careful)
        return old, self._owner.rows(self._count(old))

    def _list(self, old: Stale, left: int) -> None:
        faulty.forget(self._host, self._key, "reencrypt")
        if left:
            reasons = {name: old.left(name) for name in self._layout.protected}
            found = f"{faulty.listing(self._layout, reasons, careful=old.careful)} LIMIT {faulty.MOST_LISTED}"
            faulty.keep(self._host, self._layout, "reencrypt", self._owner.rows(found))

    def _count(self, old: Stale) -> str:
        """Counts rows by the key ids of their envelopes, in one scan. A table has few versions at a time, so there are
        few groups.
        """
        names = list(enumerate(self._layout.protected))
        keys = [f"{self._key_id(name, old.careful)} AS key_{number}" for number, name in names]
        left = [f"{old.left(name)} AS left_{number}" for number, name in names]
        return (
            f"SELECT {commas([*keys, *left])}, coalesce({old.movable}, false) AS old, count(*) AS rows"
            f" FROM {self._layout.base} t"
            f" GROUP BY {commas(str(number) for number in range(1, len(keys) + len(left) + 2))}"
        )

    def _key_id(self, name: str, careful: bool) -> str:
        """Returns an expression in hexadecimal. Tenant and subject scope have too many key ids, so 0 stands for all of
        them.
        """
        found = faulty.key_id(stored(name, careful)) if self._key["scope"] == "table" else "'0'"
        return f"CASE WHEN t.{ident(name)} IS DISTINCT FROM NULL THEN {found} END"

    def _field(self, number: int, name: str, groups: list[Row], newest: dict[str, int]) -> dict[str, Any]:
        """Returns the part of the statement for one field: how many values each key has.

        No value that can still be read is under a version below `zero_below`. `left` counts the values that do not
        open, by reason. With any of them the receipt claims nothing: `zero_below` is None.
        """
        values: Counter[int] = Counter()
        left: Counter[str] = Counter()
        for group in groups:
            if group[f"key_{number}"] is not None:
                values[int(group[f"key_{number}"], 16)] += group["rows"]
            if group[f"left_{number}"] is not None:
                left[group[f"left_{number}"]] += group["rows"]
        known = {row["key_id"]: row for row in self._host.rows(VERSIONS, ["int8[]"], [list(values)])}
        uuid = self._layout.protected[name].field_uuid
        keys = [{**known.get(key, {"key_id": key}), "values": values[key]} for key in sorted(values)]
        zero_below = None if left else newest.get(uuid)
        return {"column": name, "field": uuid, "zero_below": zero_below, "left": dict(left), "keys": keys}

    def _same_table(self) -> None:
        """Refuses another table or view in its place, which its owner could have put there. From here on, the lock
        keeps the table there.
        """
        self._host.run(f"LOCK TABLE {self._layout.base} IN ACCESS SHARE MODE")
        found = self._host.row(SAME_TABLE, ["text", "oid"], [self._layout.base, self._key["base"]])
        if not (found and found["same"]):
            raise errors.NotProtected(f"{self._layout.base} is not the table that was protected any more")
