"""What dumpdata refuses to write, and what it writes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.management import CommandError, call_command
from shop.models import Customer, Tag

REFUSED: list[dict[str, object]] = [
    {},
    {"labels": ["shop"]},
    {"labels": ["shop.Customer"]},
    {"labels": ["shop", "auth"], "exclude": ["shop.Item"]},
    {"exclude": ["auth"]},
    {"labels": ["shop.Customer"], "format": "xml"},
]
WRITTEN: list[dict[str, object]] = [
    {"labels": ["shop.Tag"]},
    {
        "labels": ["shop"],
        "exclude": [
            "shop.Customer",
            "shop.Item",
            "shop.Thing",
            "shop.SealedThing",
            "shop.SealedCustomer",
            "shop.Unsearched",
        ],
    },
    {"exclude": ["shop", "auth", "contenttypes"]},
    {"labels": ["shop.Customer"], "plaintext": True},
]


def seen() -> object:
    Tag.objects.create(name="a")
    Customer.objects.create(login="x", name="Ada")
    return {"refused": [refused(given) for given in REFUSED], "written": [written(given) for given in WRITTEN]}


def refused(given: dict[str, object]) -> str:
    """Returns the error, if the file stays as it was."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "data.json"
        file.write_text("before")
        try:
            dump(given, output=str(file))
        except CommandError as error:
            return f"{file.read_text()}: {error}"
    return "not refused"


def written(given: dict[str, object]) -> object:
    text = io.StringIO()
    dump(given, stdout=text)
    return [row["fields"].get("name") for row in json.loads(text.getvalue())]


def dump(given: dict[str, object], **more: object) -> None:
    labels = given.get("labels", [])
    call_command("dumpdata", *labels, **{name: value for name, value in given.items() if name != "labels"}, **more)
