"""Fields of encrypted columns: Django finds values by their tokens, and refuses what would decrypt every row."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, NoReturn

from django.core.exceptions import EmptyResultSet, FieldError
from django.db.models import Field, TextField
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In, IsNull, Lookup


class EncryptedLookupError(FieldError):
    """A query asks for what an encrypted field cannot do. It names fields and lookups, and no value."""


def encrypted(field: Any, search: bool | str = True) -> Any:
    """Returns the field for a model whose column is protected: `email = encrypted(models.EmailField(unique=True))`.

    `search` names the search column; True is `<column>_search`, and False is for a column without one. The lookups
    `exact`, `in` and `isnull` use the search column. All others, and `order_by`, raise FieldError: they would decrypt
    every row. For migrations the field is the one that was given. Raises TypeError for a relation or a primary key.
    """
    if field.is_relation or field.primary_key:
        raise TypeError("a relation and a primary key cannot be encrypted")
    _, _, arguments, options = field.deconstruct()
    return _class(field.__class__, search)(*arguments, **options)


@cache
def _class(plain: Any, search: bool | str) -> type:
    """Returns the class with the name of the plain one, by which migrations and Django's lists of types know it."""
    names = {"__module__": plain.__module__, "__qualname__": plain.__qualname__, "search": search}
    return type(plain.__name__, (EncryptedField, plain), names)


class EncryptedField(Field):
    """What `encrypted` adds to the class of a field."""

    search: ClassVar[bool | str]

    @property
    def search_field(self) -> Any:
        """Returns the search column as a field of the same table."""
        field = TextField()
        field.set_attributes_from_name(f"{self.column}_search" if self.search is True else self.search)
        return field

    def get_lookup(self, lookup_name: str) -> Any:
        found = BY_TOKEN.get(lookup_name)
        if found is None:
            self.get_transform(lookup_name)
        if self.search:
            return found
        if lookup_name == "isnull":
            return IsNull
        raise EncryptedLookupError(
            f"{self.name} is encrypted and has no search column: CALL envelope.add_search makes one"
        )

    def get_transform(self, lookup_name: str) -> NoReturn:
        raise EncryptedLookupError(
            f"{self.name} is encrypted: it has the lookups exact, in and isnull, and no {lookup_name}"
        )


class ByToken(Lookup):
    """Compares the search column in the place of the column itself."""

    def process_lhs(self, compiler: Any, connection: Any, lhs: Any = None) -> Any:
        found = lhs or self.lhs
        if not isinstance(found, Col):
            raise EncryptedLookupError("an encrypted column is compared by itself, and not within an expression")
        return super().process_lhs(compiler, connection, Col(found.alias, found.target.search_field))

    def _kind(self, connection: Any) -> str:
        """Returns the column's type without its length: a cast to that would cut the value."""
        return str(self.lhs.target.db_type(connection)).partition("(")[0]

    def _possible(self, values: Any, connection: Any) -> list[Any]:
        """Leaves out integers that the column cannot have: the driver would send others in their place."""
        limits = connection.ops.integer_field_ranges.get(self.lhs.target.get_internal_type())
        return [value for value in values if limits is None or limits[0] <= value <= limits[1]]


class TokenExact(ByToken, Exact):
    def process_rhs(self, compiler: Any, connection: Any) -> Any:
        if isinstance(self.rhs, int) and not self._possible([self.rhs], connection):
            raise EmptyResultSet
        sql, values = super().process_rhs(compiler, connection)
        return (f"{sql}::{self._kind(connection)}" if self.rhs_is_direct_value() else sql), values

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        # Not that of Exact, which takes a column of type bool for a condition.
        return super(Exact, self).as_sql(compiler, connection)


class TokenIn(ByToken, In):
    def process_rhs(self, compiler: Any, connection: Any) -> Any:
        """One array, because the types of search columns have no literals for IN."""
        sql, values = super().process_rhs(compiler, connection)
        has_expressions = bool(sql.strip("(%s), "))
        if has_expressions or not self.rhs_is_direct_value():
            return sql, values
        return f"(SELECT pg_catalog.unnest(%s::{self._kind(connection)}[]))", [self._possible(values, connection)]


class TokenIsNull(ByToken, IsNull):
    pass


BY_TOKEN: dict[str, Any] = {"exact": TokenExact, "in": TokenIn, "isnull": TokenIsNull}
