"""Operations of migrations. Each has a way back, and none changes what Django knows of the models.

A superuser runs them, as docs/orms.md says: `protect` and its siblings are for superusers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, NotSupportedError
from django.db.migrations.operations.base import Operation, OperationCategory

from pg_envelope_client import statements
from pg_envelope_client.statements import OnlineArguments, Query, ScopeArguments

HAS_SEARCH = """
SELECT EXISTS (SELECT FROM envelope.searches s WHERE s.relation OPERATOR(pg_catalog.=) %s::pg_catalog.regclass
    AND s."column" OPERATOR(pg_catalog.=) %s AND s.search_column OPERATOR(pg_catalog.=) %s)"""
Specs = Iterable[str] | Mapping[str, Mapping[str, Any]]


class StateNeutral(Operation):
    """An operation on the table of a model, as Django names models and fields."""

    category = OperationCategory.SQL
    model_name: str
    # Whether the server's procedure commits as it goes.
    commits = False

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Models stay as they are."""

    def _run(self, app_label: str, editor: Any, state: Any, calls: Any) -> None:
        """Runs what `calls` makes of the model's options and its quoted table."""
        model = state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(editor.connection.alias, model):
            return
        if self.commits and editor.connection.in_atomic_block:
            raise NotSupportedError(f"{self.describe()}: it commits as it goes. Set atomic = False in the migration")
        for call in calls(model._meta, editor.quote_name(model._meta.db_table)):
            editor.execute(call.sql, call.values)

    @property
    def migration_name_fragment(self) -> str:
        return f"{type(self).__name__.lower()}_{self.model_name.lower()}"


class Protect(StateNeutral):
    """Protects fields of a model: `Protect("Customer", {"email": {"search": "exact", "unique": True}, "born": {}})`.

    `fields` maps fields to the options of their columns, or is a list of fields. `upsert=True` makes the upsert
    relation for `bulk_create(update_conflicts=True)`. The other arguments are those of envelope.protect. `online=True`
    needs `atomic = False` in the migration. The way back is unprotect.
    """

    def __init__(
        self,
        model_name: str,
        fields: Specs,
        upsert: bool = False,
        kek: str = "default",
        store: str | None = None,
        scope: str = "table",
        scope_column: str | None = None,
        scope_of: str | None = None,
        erased: str = "error",
        keep_copies: bool = False,
        online: bool = False,
        batch_size: int = 200,
        pause_ms: int = 0,
        max_lag_mb: int = 64,
    ) -> None:
        self.model_name, self.upsert = model_name, upsert
        self.kek, self.store, self.keep_copies = kek, store, keep_copies
        self.fields = dict(fields) if isinstance(fields, Mapping) else {name: {} for name in fields}
        self.scoping = ScopeArguments(scope, scope_column, scope_of, erased)
        self.pace, self.commits = OnlineArguments(online, batch_size, pause_ms, max_lag_mb), online

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        self._run(app_label, schema_editor, to_state, self._protect)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        self._run(app_label, schema_editor, to_state, self._unprotect)
        self._keep_unique(schema_editor, to_state.apps.get_model(app_label, self.model_name))

    def _keep_unique(self, editor: Any, model: Any) -> None:
        """Makes the constraints that unprotect does not know of, because AlterUnique came after protect."""
        if not self.allow_migrate_model(editor.connection.alias, model):
            return
        with editor.connection.cursor() as cursor:
            found = editor.connection.introspection.get_constraints(cursor, model._meta.db_table).values()
        there = {tuple(fact["columns"]) for fact in found if fact["unique"]}
        for field in map(model._meta.get_field, self.fields):
            if field.unique and (field.column,) not in there:
                editor.execute(editor._create_unique_sql(model, [field]))

    def describe(self) -> str:
        return f"Protect {', '.join(self.fields)} of {self.model_name}"

    def _protect(self, options: Any, table: str) -> Iterable[Query]:
        columns = {options.get_field(name).column: found for name, found in self.fields.items()}
        yield statements.protect(
            table, columns, self.kek, self.store, self.scoping, keep_copies=self.keep_copies, pace=self.pace
        )
        if self.upsert:
            yield statements.allow_upsert(table)

    def _unprotect(self, options: Any, table: str) -> Iterable[Query]:  # noqa: ARG002
        if self.upsert and self.pace.online:
            yield statements.drop_upsert(table)
        yield statements.unprotect(table, "error", self.pace)


class Unprotect(Protect):
    """Makes the table of a model a plain one again. It takes what Protect took, for the way back."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        super().database_backwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def describe(self) -> str:
        return f"Unprotect {self.model_name}"


class AddSearch(StateNeutral):
    """Gives a protected field a search column: `AddSearch("Customer", "email", {"normalize": "email"})`.

    The migration needs `atomic = False`. `kind` is exact, match, contains or range; `options` are those of that kind in
    envelope.protect. The way back drops the search column.
    """

    commits = True

    def __init__(
        self, model_name: str, field: str, options: Mapping[str, Any] | None = None, kind: str = "exact"
    ) -> None:
        self.model_name, self.field, self.options, self.kind = model_name, field, options or {}, kind

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        self._run(app_label, schema_editor, to_state, self._add)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        self._run(app_label, schema_editor, to_state, self._drop)

    def describe(self) -> str:
        return f"Add a search column for {self.field} of {self.model_name}"

    def _add(self, options: Any, table: str) -> Iterable[Query]:
        yield statements.add_search(table, options.get_field(self.field).column, self.kind, self.options)

    def _drop(self, options: Any, table: str) -> Iterable[Query]:
        column = options.get_field(self.field).column
        yield statements.drop_search(table, column, self._search_column(column))

    def _search_column(self, column: str) -> str:
        """Returns its name, because the column may have others."""
        return str(self.options.get("as") or f"{column}_{'search' if self.kind == 'exact' else self.kind}")


class AlterUnique(AddSearch):
    """Makes an encrypted field unique, or ends that: `AlterUnique("Customer", "email", True)`.

    It stands in the place of the AlterField that makemigrations writes, because the search column keeps values apart:
    it is made anew. `options` are those with which it was made, without "unique". The migration needs `atomic = False`.
    """

    def __init__(self, model_name: str, field: str, unique: bool, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(model_name, field, options)
        self.unique = unique

    def state_forwards(self, app_label: str, state: Any) -> None:
        field = state.models[app_label, self.model_name.lower()].get_field(self.field).clone()
        field._unique = self.unique
        state.alter_field(app_label, self.model_name.lower(), self.field, field, preserve_default=True)

    def describe(self) -> str:
        return f"Make {self.field} of {self.model_name} {'unique' if self.unique else 'not unique'}"

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        self._alter(app_label, schema_editor, to_state, self.unique)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        self._alter(app_label, schema_editor, to_state, not self.unique)

    def _alter(self, app_label: str, editor: Any, state: Any, unique: bool) -> None:
        def make(options: Any, table: str) -> Iterable[Query]:
            yield from self._dropped(editor, options, table)
            yield self._added(options, table, unique)

        def as_before(options: Any, table: str) -> Iterable[Query]:
            yield from self._dropped(editor, options, table)
            yield self._added(options, table, False)

        try:
            self._run(app_label, editor, state, make)
        except IntegrityError:
            # Two rows have equal values. Without a search column no query would find the field.
            self._run(app_label, editor, state, as_before)
            raise

    def _dropped(self, editor: Any, options: Any, table: str) -> Iterable[Query]:
        """There is no search column where an earlier run ended between the two statements."""
        column = options.get_field(self.field).column
        with editor.connection.cursor() as cursor:
            cursor.execute(HAS_SEARCH, [table, column, self._search_column(column)])
            if cursor.fetchone()[0]:
                yield statements.drop_search(table, column, self._search_column(column))

    def _added(self, options: Any, table: str, unique: bool) -> Query:
        column = options.get_field(self.field).column
        return statements.add_search(table, column, "exact", {**self.options, **({"unique": True} if unique else {})})
