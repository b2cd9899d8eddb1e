"""Operations of migrations, forwards and back: what is protected after each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.apps import apps
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import connection, migrations, models, transaction
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from shop.models import Thing

from pg_envelope_client.django.operations import AddSearch, Protect, StateNeutral, Unprotect

TEXT = {"text": {"bind": "column"}, "big": {}}
SEARCHES = ["exact", {"exact": {"normalize": "casefold", "as": "text_loose"}}, "match"]
RANGE = {"search": {"range": {"bucket": 1000}}}
SEARCHED = {**TEXT, "text": {**TEXT["text"], "search": SEARCHES}, "big": RANGE}
MADE: list[tuple[bool, Operation]] = [
    (True, Protect("Thing", TEXT, upsert=True)),
    (False, AddSearch("Thing", "text")),
    (False, AddSearch("Thing", "text", {"normalize": "casefold", "as": "text_loose"})),
    (False, AddSearch("Thing", "text", kind="match")),
    (False, AddSearch("Thing", "big", {"bucket": 1000}, kind="range")),
    (False, AddIndexConcurrently("Thing", models.Index(fields=["whole"], name="thing_whole"))),
    (True, migrations.AddField("Thing", "more", models.TextField(default="more", db_index=True))),
    (True, Unprotect("Thing", SEARCHED, upsert=True)),
    (False, Protect("Thing", ["text"], online=True)),
]


def refused() -> Iterator[str]:
    """Each of them within a transaction."""
    state = ProjectState.from_apps(apps)
    for wrong in (AddSearch("Thing", "text"), Protect("Thing", ["text"], online=True), Protect("Thing", ["nothing"])):
        try:
            with connection.schema_editor(atomic=True) as editor:
                wrong.database_forwards("shop", editor, state, state)
        except Exception as error:
            yield f"{type(error).__name__}: {error}"


def rolled_back() -> list[bool]:
    """What a transaction protected is plain again after it, and after a savepoint in it."""
    model, state = Thing._meta.db_table, ProjectState.from_apps(apps)
    known = []
    for within in (transaction.atomic, contextlib.nullcontext):
        with within():
            with contextlib.suppress(ZeroDivisionError), connection.schema_editor(atomic=True) as editor:
                Protect("Thing", ["text"]).database_forwards("shop", editor, state, state)
                known.append(connection.protected_table(model) is not None)
                raise ZeroDivisionError
            known.append(connection.protected_table(model) is not None)
    return known


def seen() -> object:
    Thing.objects.create(text="A text", big=7)
    state, found = ProjectState.from_apps(apps), [protected()]
    before = []
    for atomic, operation in MADE:
        migration = migrations.Migration("made", "shop")
        migration.operations, migration.atomic = [operation], atomic
        before.append((migration, state.clone()))
        with connection.schema_editor(atomic=atomic) as editor:
            state = migration.apply(state, editor)
        found.append(protected())
    for migration, earlier in reversed(before):
        with connection.schema_editor(atomic=migration.atomic) as editor:
            migration.unapply(earlier, editor)
        found.append(protected())
    written = all(as_written(one) for _, one in MADE if isinstance(one, StateNeutral))
    return {"protected": found, "as_written": written, "refused": list(refused()), "rolled_back": rolled_back()}


def as_written(operation: Operation) -> bool:
    """Tells whether a migration that Django writes, as squashmigrations does, has the same operation."""
    text, imports = OperationWriter(operation).serialize()
    names: dict[str, object] = {}
    exec("\n".join([*imports, f"(made,) = [{text}]"]), names)
    return facts(names["made"]) == facts(operation)


def facts(operation: object) -> dict[str, object]:
    return {name: value for name, value in vars(operation).items() if not name.startswith("_")}


def protected() -> list[object]:
    found = connection.protected_table("shop_thing")
    rows = list(Thing.objects.values_list("text", "big"))
    return [rows, None if found is None else [found.upsert, sorted(found.searches)]]
