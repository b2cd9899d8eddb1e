"""What the options of fields do on a plain table, and on the same table when its fields are encrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import Error, connection, migrations, models, transaction
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.forms import modelform_factory

from pg_envelope_client.django.fields import encrypted
from pg_envelope_client.django.operations import AlterUnique, Protect, Unprotect

Wrap = Callable[[Any], Any]
CHOICES = {"r": "red", "g": "green"}
ENCRYPTED: dict[str, Any] = {
    "alone": {"index": "drop"},
    "often": {"index": "drop"},
    "empty": {},
    "kind": {"search": "exact"},
    "short": {},
    "checked": {"search": "exact"},
    "made": {},
}


def fields(wrap: Wrap) -> dict[str, Any]:
    """Every option that a developer gives to a field."""
    return {
        "alone": wrap(models.CharField(max_length=20, unique=True)),
        "often": wrap(models.CharField(max_length=20, unique=False, db_index=True, default="often")),
        "empty": wrap(models.TextField(null=True, blank=True)),
        "kind": wrap(models.CharField(max_length=1, choices=CHOICES, default="r")),
        "short": wrap(models.CharField(max_length=5, blank=True, default="")),
        "checked": wrap(models.CharField(max_length=9, validators=[RegexValidator("^[0-9]+$")], default="1")),
        "made": wrap(models.IntegerField(default=lambda: 7, help_text="made", verbose_name="Made here")),
    }


def model(name: str, wrap: Wrap) -> Any:
    meta = type("Meta", (), {"app_label": "shop", "db_table": f"shop_{name.lower()}"})
    return type(name, (models.Model,), {**fields(wrap), "Meta": meta, "__module__": "shop.models"})


Plain = model("Plain", lambda field: field)
Sealed = model("Sealed", encrypted)


def attempt(act: Callable[[], object]) -> object:
    """Returns what an act gives, or what kind of error it raises and of which fields."""
    try:
        with transaction.atomic():
            return str(act())
    except ValidationError as error:
        return {name: [one.code for one in found] for name, found in error.error_dict.items()}
    except Error as error:
        return type(error).__name__


ROWS: list[dict[str, Any]] = [
    {"alone": "a"},
    {"alone": "a"},
    {"alone": "b", "often": "often"},
    {"alone": "c", "often": None},
    {"alone": "d", "empty": None, "kind": "x"},
    {"alone": "e", "short": "123456"},
    {"alone": "f", "checked": "no number"},
    {"alone": "g", "made": 9, "kind": "g"},
    {"alone": None},
    {"alone": ""},
    {},
    {"alone": "h" * 21},
]


def used(kind: Any) -> object:
    """Writes rows in the three ways that look at options: without a look, after full_clean, and by a form."""
    kind.objects.all().delete()
    inserted = [attempt(lambda row=row: kind.objects.create(**row).alone) for row in ROWS]
    cleaned = [attempt(kind(**{**row, "alone": f"{row.get('alone')}2"}).full_clean) for row in [*ROWS, {"often": ""}]]
    form = modelform_factory(kind, fields="__all__")
    given = [{"alone": "a"}, {"alone": "i", "often": "x", "kind": "g", "checked": "2", "made": "3"}, {}]
    return {
        "inserted": inserted,
        "cleaned": cleaned,
        "twice": attempt(lambda: kind(alone="a").full_clean()),
        "forms": [errors(form(one)) for one in given],
        "html": str(form()).replace("sealed", "plain"),
        "shown": sorted(
            (one.alone, one.get_kind_display(), one.made, one.often, one.empty) for one in kind.objects.all()
        ),
        "columns": [(field.name, field.verbose_name, field.db_type(connection)) for field in kind._meta.local_fields],
    }


def errors(form: Any) -> object:
    return sorted((name, error[0].replace("Sealed", "Plain")) for name, error in form.errors.items())


def apply(state: ProjectState, *operations: Operation, atomic: bool = True) -> ProjectState:
    migration = migrations.Migration("made", "shop")
    migration.operations, migration.atomic = list(operations), atomic
    with connection.schema_editor(atomic=atomic) as editor:
        return migration.apply(state, editor)


def changes(state: ProjectState, kind: Any) -> object:
    """What makemigrations would write, if this model were the application's."""
    wanted = state.clone()
    wanted.models["shop", kind.__name__.lower()] = ModelState.from_model(kind)
    found = MigrationAutodetector(state, wanted)._detect_changes()
    return [str(operation) for migration in found.get("shop", []) for operation in migration.operations]


def indexes() -> object:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "shop_sealed").values()
    return sorted({(*fact["columns"], fact["unique"]) for fact in found if not fact["primary_key"]})


def altered(name: str, **options: Any) -> Operation:
    """What makemigrations writes for another option of a field."""
    field = fields(lambda one: one)[name]
    _, _, arguments, now = field.deconstruct()
    return migrations.AlterField("Sealed", name, field.__class__(*arguments, **{**now, **options}))


ALTERED: list[Operation] = [
    altered("often", db_index=False),
    altered("often", db_index=True),
    altered("kind", db_index=True),
    altered("kind", choices={**CHOICES, "b": "blue"}),
    altered("empty", null=False, default=""),
    altered("empty", null=True),
    altered("made", default=8, help_text="other"),
    altered("alone", unique=False),
    altered("kind", unique=True),
    altered("empty", db_index=True),
    altered("short", max_length=6),
]


def alter(state: ProjectState) -> Iterator[object]:
    for operation in ALTERED:
        try:
            state = apply(state.clone(), operation)
        except Error as error:
            yield str(error).partition("\n")[0]
        else:
            yield None


def turned(state: ProjectState) -> object:
    """A field that becomes unique, and one that ends to be, each with its way back."""
    Sealed.objects.all().delete()
    there = Sealed.objects.create(alone="a", kind="r").pk
    seen = [indexes()]
    for operation, value in ((AlterUnique("Sealed", "kind", True), "r"), (AlterUnique("Sealed", "alone", False), "a")):
        before, now = state, apply(state.clone(), operation, atomic=False)
        field = now.models["shop", "sealed"].get_field(operation.field)
        twin = attempt(lambda: Sealed.objects.create(alone="a", kind="r").delete()[0])
        found = Sealed.objects.get(**{operation.field: value})
        seen.append([field.unique, twin, found.pk == there])
        seen.append(indexes())
        migration = migrations.Migration("made", "shop")
        migration.operations, migration.atomic = [operation], False
        with connection.schema_editor(atomic=False) as editor:
            migration.unapply(before.clone(), editor)
        seen.append(indexes() == seen[0])
    return seen


def interrupted(state: ProjectState) -> list[object]:
    """Equal values stop it, and the search column stays. What ended between drop and add goes on at the next call."""
    unique = AlterUnique("Sealed", "kind", True)
    Sealed.objects.all().delete()
    for name in ("a", "b"):
        Sealed.objects.create(alone=name, kind="r")
    seen: list[object] = []
    try:
        apply(state.clone(), unique, atomic=False)
    except Error as error:
        seen.append([type(error).__name__, str(error.__cause__.sqlstate if error.__cause__ else "")])
    seen += [Sealed.objects.filter(kind="r").count(), ["kind", False] in map(list, indexes())]
    Sealed.objects.filter(alone="b").delete()
    with connection.cursor() as cursor:
        cursor.execute("CALL envelope.drop_search('shop_sealed', 'kind')")
    apply(state.clone(), unique, atomic=False)
    seen += [Sealed.objects.filter(kind="r").count(), ["kind", True] in map(list, indexes())]
    migration = migrations.Migration("made", "shop")
    migration.operations, migration.atomic = [unique], False
    with connection.schema_editor(atomic=False) as editor:
        migration.unapply(state.clone(), editor)
    return seen


def plain_again(state: ProjectState) -> object:
    """A field that became unique stays so on the plain table."""
    state = apply(state, AlterUnique("Sealed", "kind", True), atomic=False)
    apply(state, Unprotect("Sealed", ENCRYPTED))
    return [attempt(lambda: Sealed.objects.create(alone="z", kind="r").pk), indexes()]


def seen() -> object:
    state = ProjectState()
    for kind in (Plain, Sealed):
        state.add_model(ModelState.from_model(kind))
        with connection.schema_editor() as editor:
            editor.create_model(state.apps.get_model("shop", kind.__name__))
    plain = used(Plain)
    state = apply(state, Protect("Sealed", ENCRYPTED))
    first = changes(state, Sealed)
    return {
        "differences": differences(plain, used(Sealed)),
        "changes": [first, changes(state, Sealed)],
        "altered": list(alter(state)),
        "turned": turned(state),
        "interrupted": interrupted(state),
        "plain": plain_again(state),
    }


def differences(plain: Any, sealed: Any) -> object:
    return {name: [plain[name], sealed[name]] for name in plain if plain[name] != sealed[name]}
