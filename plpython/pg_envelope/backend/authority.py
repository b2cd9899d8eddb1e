"""Finds the right of a role where the path of the query cannot bring it: named keys, and tables with row-level
security.

PostgreSQL is asked for the right once per statement, role and use. It is not asked again for a second while it tells
of no change: of its own catalogs, or of the key catalog (sql/45_changes.sql). So REVOKE and SET ROLE count from the
next statement. In a statement that goes on, they count within a second. A DO block, a procedure and a message of
several statements are one statement each, however long they take. When this session itself takes a right to a named
key away, that counts at once.

It takes several times as long to ask the key catalog as to ask for the grant alone. So the session remembers for a
second where a column is, and which named key a key id or a name stands for. Then it asks for the grant alone.
"""

from __future__ import annotations

from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import catalog_changes, is_in_block, server
from pg_envelope.backend.session_keys import CAPABILITY_BYTES
from pg_envelope.typed import Literal, NamedTuple

Kind = Literal["read", "write", "search", "name", "key"]
Ask = tuple[int, Kind, str]

# $2 is what was asked for, then what else the answer may tell. By the column's number: one that is gone is then one
# without right. What another view hands on costs a search, so it is looked for with the field that was asked for only.
COLUMN_RIGHTS = """
SELECT f.field_uuid::text AS subject, f.key_uuid::text AS key, c.capability, c.seal,
    CASE WHEN k.by_role THEN k.view::oid END AS view, a.attnum,
    EXISTS (SELECT FROM envelope_private.mask m WHERE m.field_uuid = f.field_uuid) AS is_masked
FROM envelope_private.field f
JOIN envelope_private.key k USING (key_uuid)
JOIN envelope_private.capability c USING (field_uuid)
JOIN pg_class t ON t.oid = k.base
LEFT JOIN pg_attribute a ON a.attrelid = k.view AND a.attname = f.attname
WHERE f.field_uuid = ANY ($2::uuid[]) AND (pg_has_role($1, t.relowner, 'USAGE')
    OR k.by_role AND (has_column_privilege($1, k.view, a.attnum, '{privilege}') {through_view}))"""
THROUGH_VIEW = "OR f.field_uuid = $2[1]::uuid AND envelope_private.reads_through_view($1, k.view, f.attname)"
NAMED_RIGHT = """
SELECT $2[1] AS subject, NULL AS key, k.key_uuid::text AS named, c.capability, c.seal
FROM envelope_private.key k JOIN envelope_private.field f USING (key_uuid)
JOIN envelope_private.capability c USING (field_uuid) {found} AND f.bind <> 'search'
    AND ((SELECT r.rolsuper FROM pg_roles r WHERE r.oid = $1) OR EXISTS (
        SELECT FROM envelope_private.key_grant g WHERE g.key_uuid = k.key_uuid AND pg_has_role($1, g.role, 'USAGE')))"""
# This query is for the owner of the tables that use the search key.
SEARCH_RIGHT = """
SELECT c.field_uuid::text AS subject, NULL AS key, c.capability, c.seal
FROM envelope_private.capability c JOIN envelope_private.search_key k ON k.search_uuid = c.field_uuid
WHERE c.field_uuid = $2[1]::uuid AND pg_has_role($1, envelope_private.search_owner(c.field_uuid), 'USAGE')"""
# These run like the role's own statements, under the role's search_path.
MAY_DECRYPT = """
SELECT true AS granted FROM envelope_internal.granted_key WHERE key_uuid OPERATOR(pg_catalog.=) $1 LIMIT 1"""
MAY_ENCRYPT = """
SELECT true AS granted FROM envelope_internal.granted_key WHERE key_uuid OPERATOR(pg_catalog.=) $1
    AND name OPERATOR(pg_catalog.=) $2 AND header OPERATOR(pg_catalog.=) $3 LIMIT 1"""
GRANTED = """
SELECT pg_catalog.has_table_privilege($1, $2, 'SELECT') AS all_columns,
    pg_catalog.has_column_privilege($1, $2, $3, 'SELECT') AS this_column"""
QUERIES: dict[Kind, str] = {
    "read": COLUMN_RIGHTS.format(privilege="SELECT", through_view=THROUGH_VIEW),
    "write": COLUMN_RIGHTS.format(privilege="INSERT, UPDATE", through_view=""),
    "search": SEARCH_RIGHT,
    "name": NAMED_RIGHT.format(found="WHERE k.name = $2[1]"),
    "key": NAMED_RIGHT.format(
        found="""JOIN envelope_private.field_key fk USING (field_uuid)
WHERE fk.key_id = $2[1]::bigint AND k.name IS NOT NULL"""
    ),
}
# These names are for the audit log. A name that is not the catalog's could be anything, so it is not told.
OF_FIELD = "SELECT label FROM envelope_private.protected_column WHERE field_uuid = $1::uuid"
ABOUT: dict[Kind, str] = {
    "read": OF_FIELD,
    "write": OF_FIELD,
    "search": "SELECT label FROM envelope_private.usable_key WHERE field_uuid = $1::uuid LIMIT 1",
    "name": "SELECT name AS label FROM envelope_private.key WHERE name = $1",
    "key": """SELECT $1::bigint AS key_id,
        (SELECT label FROM envelope_private.usable_key WHERE key_id = $1::bigint LIMIT 1) AS label""",
}
KEY_ID_EXISTS = "SELECT key_id FROM envelope_private.field_key WHERE key_id = $1::bigint"
MAX_AGE_SECONDS = 1.0
NAMED_HINT = "envelope.keys lists keys; envelope.grant_key(name, role) lets a role use one."


class Right:
    """The right of a role: the capability of a field, which decrypts, and the seal (capability | header), which
    encrypts. `is_masked`: the column has rules, and one of them decides what the role sees.
    """

    __slots__ = ("capability", "is_masked", "seal")

    def __init__(self, row: Row) -> None:
        self.capability: bytes = row["capability"]
        self.seal: bytes = row["seal"]
        self.is_masked: bool = row.get("is_masked", False)


class ColumnPlace(NamedTuple):
    """The place where a column is read by the reader's own right: the view's OID, the column's number, and the
    right.

    `until` (monotonic seconds) is when the session looks again.
    """

    view: int
    number: int
    right: Right
    until: float


class Named(NamedTuple):
    """The named key that a key id or a name stands for, and the right to it.

    `until` (monotonic seconds) is when the session looks again.
    """

    key_uuid: str
    right: Right
    until: float


class Authority:
    """Remembers the answers about rights for as long as they hold."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._statement = self._transaction = 0
        self._until = 0.0
        # What catalog_changes() gave when rights were last forgotten, and the last number that it gave.
        self._changes: int | None = None
        self._heard = -1
        self._rights: dict[Ask, Right] = {}
        # The columns that were asked for so far, by their table's key; and the same lists by each column.
        self._columns: dict[str, list[str]] = {}
        self._beside: dict[str, list[str]] = {}
        self._places: dict[str, ColumnPlace] = {}
        self._named: dict[tuple[Kind, str], Named] = {}
        # A query in a function that is STABLE sees what was granted when the statement began.
        self._begins = False

    def right(self, kind: Kind, subject: str) -> Right:
        """The current role's right to a field (by uuid) or named key (by name or key id). Raises NotPermitted."""
        statement = server().GetCurrentStatementStartTimestamp()
        now = monotonic()
        if statement != self._statement or now > self._until:
            self._keep_what_holds(statement, now)
        ask = server().GetUserId(), kind, subject
        found = self._rights.get(ask)
        return found if found is not None else self._authorise(ask)

    def _keep_what_holds(self, statement: int, now: float) -> None:
        """Forgets the rights that PostgreSQL must be asked for again."""
        self._begins, self._statement = statement != self._statement, statement
        before, self._transaction = self._transaction, server().GetCurrentTransactionStartTimestamp()
        changes = catalog_changes()
        if changes is not None and changes != self._heard:
            # The column may have got a mask, and the name may be another key's.
            self._places.clear()
            self._named.clear()
            self._heard = changes
        if changes is None or changes != self._changes or now > self._until:
            self._rights.clear()
            self._changes, self._until = changes, now + MAX_AGE_SECONDS
        elif self._transaction == before or is_in_block():
            # A transaction that goes on may not hear of changes of the key catalog. A query sees them.
            self._rights = {ask: right for ask, right in self._rights.items() if ask[1] == "read"}

    def forget(self) -> None:
        """Makes the next use ask again."""
        self._rights.clear()
        self._begins = False

    def _authorise(self, ask: Ask) -> Right:
        role, kind, subject = ask
        if kind == "read" and (place := self._places.get(subject)) and place.until > monotonic():
            self._grant(role, subject, place)
        if self._begins and (named := self._named.get((kind, subject))) and named.until > monotonic():
            self._allow(ask, named)
        if ask not in self._rights:
            for row in self._host.as_owner(lambda: self._look_up(*ask)):
                self._rights[role, kind, row["subject"]] = Right(row)
                self._note(row)
                if kind in ("key", "name"):
                    self._named[kind, subject] = Named(row["named"], Right(row), monotonic() + MAX_AGE_SECONDS)
        return self._rights[ask]

    def _grant(self, role: int, subject: str, place: ColumnPlace) -> None:
        """Remembers the rights that the view's own GRANTs give. Without such a GRANT, another view or the owner's
        role may give them.
        """
        row = self._host.row(GRANTED, ["oid", "oid", "int2"], [role, place.view, place.number])
        if row and row["all_columns"]:
            for other, there in self._places.items():
                if there.view == place.view and there.until > monotonic():
                    self._rights[role, "read", other] = there.right
        elif row and row["this_column"]:
            self._rights[role, "read", subject] = place.right

    def _allow(self, ask: Ask, named: Named) -> None:
        """Remembers the right that a grant of the named key gives. A superuser has one without a grant."""
        _, kind, name = ask
        if kind == "key":
            row = self._host.row(MAY_DECRYPT, ["uuid"], [named.key_uuid])
        else:
            header = (named.right.seal or b"")[CAPABILITY_BYTES:]
            row = self._host.row(MAY_ENCRYPT, ["uuid", "text", "bytea"], [named.key_uuid, name, header])
        if row:
            self._rights[ask] = named.right

    def _look_up(self, role: int, kind: Kind, subject: str) -> list[Row]:
        """Returns a row for `subject`, and one for each other column of its table that this session has asked
        for before.
        """
        rows = self._host.rows(QUERIES[kind], ["oid", "text[]"], [role, [subject, *self._beside.get(subject, ())]])
        if not any(row["subject"] == subject for row in rows):
            raise self._refusal(kind, subject)
        return rows

    def _note(self, row: Row) -> None:
        field_uuid, key = row["subject"], row["key"]
        if key is not None and field_uuid not in self._beside:
            columns = self._columns.setdefault(key, [])
            columns.append(field_uuid)
            self._beside[field_uuid] = columns
        if row.get("view") is not None:
            until = monotonic() + MAX_AGE_SECONDS
            self._places[field_uuid] = ColumnPlace(int(row["view"]), row["attnum"], Right(row), until)

    def _refusal(self, kind: Kind, subject: str) -> errors.EnvelopeError:
        """Returns the error for a missing right. A header that names no key at all is a bad envelope: it was
        altered, or comes from another database.
        """
        if kind == "key" and self._host.row(KEY_ID_EXISTS, ["text"], [subject]) is None:
            return errors.InvalidEnvelope()
        about = self._host.row(ABOUT[kind], ["text"], [subject])
        return errors.NotPermitted(hint=None if kind in ("read", "write", "search") else NAMED_HINT, about=about)
