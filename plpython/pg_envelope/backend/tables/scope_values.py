"""Finds the texts under which the keys of a tenant or subject are, from a value that a person writes.

The type of the scope column decides which texts these are.
"""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.tables import catalog, inspect
from pg_envelope.backend.tables.canonical import canonical, fits, has_one_text, restored, written
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import dataclass

KNOWN = """
SELECT DISTINCT scope FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT NULL AND ($2 IS NULL OR scope = $2)"""
DETERMINISTIC = """
SELECT c.collisdeterministic AS deterministic FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation WHERE a.attrelid = $1 AND a.attnum = $2"""
# Classes of SQLSTATE that an input function or a domain's CHECK raises for a value.
BAD_VALUE = ("22", "23")
NO_EQUALITY = "42883"


@dataclass(frozen=True)
class ScopeColumn:
    """The scope column of a protected table. A value goes into statements as a parameter, and into no error."""

    host: Host
    key: Row
    column: Column
    owner: int

    @classmethod
    def of(cls, host: Host, oid: int) -> ScopeColumn:
        """Finds the scope column by the OID of view or base table, under a pinned search_path. Raises NotProtected,
        BadInput.
        """
        key = catalog.key_of(host, oid)
        if key["scope_column"] is None:
            raise errors.BadInput(
                "this table has one key for all its rows",
                hint="Tenants and subjects have keys of their own in tables that were protected with a scope.",
            )
        base = inspect.inspect(host, key["base"])
        column = base.column(key["scope_column"])
        if column is None:
            raise errors.NotConfigured(
                f"{base.sql} has no column {key['scope_column']} any more",
                hint="CALL envelope.refresh(...) takes over the column's new name.",
            )
        return cls(host, key, column, base.owner_oid)

    def texts(self, given: list[str]) -> list[str]:
        """Returns the canonical text of each value.

        Raises BadInput for a text that is no value of the column's type.
        """
        query = (
            f"SELECT {canonical(self.column, 'v')} AS text, v.fits"
            f' FROM (SELECT {written(self.column, "g.given")} AS "{self._name}", {fits(self.column, "g.given")} AS fits'
            " FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY g (given, n) ORDER BY g.n) AS v"
        )
        try:
            rows = AsOwner(self.host, self.owner).rows(query, ["text[]"], [given])
        except Exception as error:
            if self._sqlstate(error).startswith(BAD_VALUE):
                raise self._no_value() from None
            raise
        if not all(row["fits"] for row in rows):
            raise self._no_value()
        return [row["text"] for row in rows]

    def known(self, given: str) -> list[str]:
        """Returns the texts of all keys of a tenant or subject. There are several where equal values have several
        texts.

        Raises BadInput, and KeyNotFound when there is none.
        """
        found = self._find(given)
        if not found:
            raise errors.KeyNotFound(
                f"{self.key['view_name']} has no key of this {self.key['scope']}",
                hint=f"The search was for a value of type {self.column.type}, as in column {self.column.name}, among"
                " the scopes of envelope.keys. If the value is right, nothing was written for it yet.",
            )
        return found

    def known_or_new(self, given: str) -> list[str]:
        """Returns the same texts, and the text that a new key would have."""
        try:
            (text,) = self.texts([given])
        except errors.BadInput:
            return self.known(given)
        return sorted({text, *self._equal(text, given)})

    def _find(self, given: str) -> list[str]:
        try:
            (text,) = self.texts([given])
        except errors.BadInput:
            # The column may have had another type when the key was made.
            if found := self._written_so(given):
                return found
            raise
        return self._equal(text, given)

    def _equal(self, text: str, given: str) -> list[str]:
        if has_one_text(self.column) and self._compares_bytes():
            return self._written_so(text)
        known = [row["scope"] for row in self.host.rows(KNOWN, ["uuid", "text"], [self.key["scope_key"], None])]
        try:
            rows = AsOwner(self.host, self.owner).rows(self._equality(), ["text[]", "text"], [known, given])
        except Exception as error:
            if self._sqlstate(error) == NO_EQUALITY or self._sqlstate(error).startswith(BAD_VALUE):
                return self._written_so(text)
            raise
        return [row["known"] for row in rows]

    def _equality(self) -> str:
        """Compares records: that uses the type's own equality, wherever its operator is, and the column's collation."""
        left, right = restored(self.column, "k.known"), written(self.column, "$2::pg_catalog.text")
        return (
            "SELECT k.known FROM pg_catalog.unnest($1::pg_catalog.text[]) AS k (known)"
            f" WHERE ROW({left})::pg_catalog.record OPERATOR(pg_catalog.=) ROW({right})::pg_catalog.record"
        )

    def _written_so(self, text: str) -> list[str]:
        return [row["scope"] for row in self.host.rows(KNOWN, ["uuid", "text"], [self.key["scope_key"], text])]

    def _compares_bytes(self) -> bool:
        row = self.host.row(DETERMINISTIC, ["oid", "int2"], [self.key["base"], self.column.attnum])
        return row is None or bool(row["deterministic"])

    def _no_value(self) -> errors.BadInput:
        return errors.BadInput(
            f"this is no value of the scope column of {self.key['view_name']}",
            detail=f"column {self.column.name}, type {self.column.type}",
            hint="Write it as in an INSERT in this session. envelope.keys shows the scopes that have keys.",
        )

    def _sqlstate(self, error: Exception) -> str:
        passed = self.host.passed_on(error)
        return passed.sqlstate if passed is not None else ""

    @property
    def _name(self) -> str:
        return self.column.name.replace('"', '""')
