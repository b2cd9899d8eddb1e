"""Seals chosen members of a document, as JSON, MongoDB or Firestore have them: FORMAT.md section 9."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from pg_envelope import errors
from pg_envelope_client.sealing import plain
from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.layout import place as named
from pg_envelope_client.sealing.markers import WRITERS, Layout, envelope_of, is_marker, marker
from pg_envelope_client.sealing.types import utf8

Path = str | Sequence[str]
Place = tuple[str, ...]
Bind = Literal["path", "document"]
BINDS = ("path", "document")
Change = Callable[[Any, Place], Any]

ANY = "*"


def seal_document(
    key: NamedKey,
    document: Mapping[str, Any],
    paths: Iterable[Path],
    context: str,
    *,
    layout: Layout = "compact",
    bind: Bind = "path",
) -> dict[str, Any]:
    """Returns a copy of a document with the values at `paths` sealed.

    A path is `"medical.history"` or `("medical", "history")`; `*` stands for each element of a list and each member of
    an object. A path that leads nowhere is no error. None, and what is sealed already, stays as it is. `context` names
    the document, such as its id. With `bind="path"` a value opens at its own path in this document only.
    Raises BadInput for a value that would not come back as it is, and for data that looks like a sealed value.
    """
    if layout not in WRITERS:
        raise errors.BadInput("there is no such layout", hint=f"Layouts: {', '.join(WRITERS)}")
    _refuse_no_object(document)
    wanted = _wanted(paths)
    binding = _Binding(key, context, bind)
    if is_marker(document):
        binding.refuse_foreign(document, ())

    def change(value: Any, place: Place) -> Any:
        if is_marker(value):
            binding.refuse_foreign(value, place)
            return value
        chosen = value is not None and any(_leads_to(path, place) for path in wanted)
        return marker(binding.seal(value, place), layout) if chosen else _walked(value, place, change)

    return dict(_walked(document, (), change))


def open_document(
    key: NamedKey,
    document: Mapping[str, Any],
    context: str,
    *,
    paths: Iterable[Path] = (),
    bind: Bind = "path",
) -> dict[str, Any]:
    """Returns a copy of a document with all sealed values opened, whatever their layout.

    What stands at one of `paths` must be sealed, or None: somebody who can write the document could have put a value of
    their own there. Raises InvalidEnvelope for that, and for a value that does not open in its place.
    """
    _refuse_no_object(document)
    wanted = _wanted(paths)
    binding = _Binding(key, context, bind)
    if is_marker(document):
        raise errors.InvalidEnvelope

    def change(value: Any, place: Place) -> Any:
        if is_marker(value):
            return binding.open(value, place)
        if value is not None and any(_leads_to(path, place) for path in wanted):
            raise errors.InvalidEnvelope
        return _walked(value, place, change)

    return dict(_walked(document, (), change))


class _Binding:
    """Ties values to a document, and to their places in it."""

    def __init__(self, key: NamedKey, context: str, bind: Bind) -> None:
        if bind not in BINDS:
            raise errors.BadInput("there is no such way to bind", hint=f"Ways: {', '.join(BINDS)}")
        self._key, self._context, self._bind = key, utf8(context), bind

    def seal(self, value: object, place: Place) -> bytes:
        _refuse_marker_inside(value)
        sealed = self._key.seal(plain.write(value), self._row_key(place))
        if sealed is None:
            raise errors.Internal
        return sealed

    def open(self, found: Mapping[str, Any], place: Place) -> Any:
        content = self._key.open_bytes(envelope_of(found), self._row_key(place))
        return None if content is None else plain.read(content)

    def refuse_foreign(self, found: Mapping[str, Any], place: Place) -> None:
        """Raises BadInput for what looks like a sealed value and is none of this document and place."""
        try:
            self.open(found, place)
        except errors.InvalidEnvelope:
            raise errors.BadInput(
                "the document holds data that looks like a sealed value, and does not open in its place",
                hint="Rename its members, or open the document with the context it was sealed with first.",
            ) from None

    def _row_key(self, place: Place) -> str:
        parts = ["document", self._context, pointer(place)] if self._bind == "path" else ["document", self._context]
        return named(*parts)


def pointer(place: Place) -> str:
    """Returns the JSON Pointer (RFC 6901) of a place in a document."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in place)


def _refuse_no_object(document: object) -> None:
    if not isinstance(document, Mapping):
        raise errors.BadInput("a document is an object with members")


def _wanted(paths: Iterable[Path]) -> list[Place]:
    """A text is refused: its letters would be taken for paths, and the value would stay in the clear."""
    if isinstance(paths, str | bytes):
        raise errors.BadInput("paths is a list of paths", hint='For example: ["ssn", "cards.*.pan"].')
    return [_parts(path) for path in paths]


def _parts(path: Path) -> Place:
    if not isinstance(path, str | list | tuple) or not all(isinstance(part, str) for part in path):
        raise errors.BadInput("a path is a text, or a list of texts", hint='("cards", "*", "pan")')
    found = tuple(path.split(".")) if isinstance(path, str) else tuple(path)
    if not found or not all(found):
        raise errors.BadInput("a path has an empty part", hint='For example: "cards.*.pan", or ("cards", "*", "pan").')
    return found


def _leads_to(path: Place, place: Place) -> bool:
    return len(path) == len(place) and all(want in (ANY, part) for want, part in zip(path, place, strict=True))


def _walked(value: Any, place: Place, change: Change) -> Any:
    """Returns a copy of an object or list with each of its items changed; anything else as it is."""
    plain.refuse_deep(plain.MOST_DEPTH - len(place))
    if isinstance(value, Mapping):
        return {name: change(item, (*place, plain.name_of(name))) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [change(item, (*place, str(number))) for number, item in enumerate(value)]
    return value


def _refuse_marker_inside(value: Any, depth: int = plain.MOST_DEPTH) -> None:
    """A sealed value inside a sealed value would stay sealed when the outer one is opened."""
    plain.refuse_deep(depth)
    if is_marker(value):
        raise errors.BadInput("a value that is to be sealed holds a sealed value", hint="Do two paths overlap?")
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for item in items:
        _refuse_marker_inside(item, depth - 1)
