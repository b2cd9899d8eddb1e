"""What every error carries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pg_envelope import errors
from pg_envelope.errors import BY_CODE, EnvelopeError

FORMAT = Path(__file__).parents[3] / "FORMAT.md"


def _all(base: type[EnvelopeError]) -> list[type[EnvelopeError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all(child))]


ALL = [found for found in _all(EnvelopeError) if found.__module__ == errors.__name__]
every_error = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


@every_error
def test_a_sqlstate_has_five_characters(kind: type[EnvelopeError]) -> None:
    assert re.fullmatch(r"[0-9A-Z]{5}", kind.sqlstate)
    assert not kind.sqlstate.startswith(("00", "01", "02")), "success, warning and no data are no errors"


@every_error
def test_texts_read_as_postgresql_s_do(kind: type[EnvelopeError]) -> None:
    """Its style: a message begins in lower case and has no full stop; a hint is made of sentences."""
    assert re.match(r"[a-z]|KMS", kind.text)
    assert not kind.text.endswith(".")
    assert kind.default_hint is None or re.match(r"[A-Z'].*[.?A-Z)]$", kind.default_hint)


@every_error
def test_texts_are_fixed(kind: type[EnvelopeError]) -> None:
    """A place to fill in could take a value."""
    for text in (kind.text, kind.default_hint or ""):
        assert not re.search(r"[{}%]|\$\d", text)


@every_error
def test_what_is_said_is_what_is_carried(kind: type[EnvelopeError]) -> None:
    if issubclass(kind, errors.InvalidEnvelope):
        return
    error = kind("a text", detail="a detail", hint="a hint")
    assert (str(error), error.message, error.detail, error.hint) == ("a text", "a text", "a detail", "a hint")
    assert kind().message == kind.text
    assert kind().hint == kind.default_hint
    assert kind(hint="").hint == ""


def test_a_bad_envelope_can_carry_nothing() -> None:
    with pytest.raises(TypeError):
        errors.InvalidEnvelope("which byte it was")  # type: ignore[call-arg]
    told = [(e.sqlstate, e.message, e.detail, e.hint) for e in (errors.InvalidEnvelope(), errors.UnknownKey())]
    assert told == [("XX001", errors.InvalidEnvelope.text, None, errors.InvalidEnvelope.default_hint)] * 2


def test_codes_are_unique() -> None:
    """A refinement may share its parent's code, and then travels as its parent."""
    for code in {kind.code for kind in ALL}:
        kinds = [kind for kind in ALL if kind.code == code and kind is not EnvelopeError]
        (head,) = (kind for kind in kinds if not any(kind is not other and issubclass(kind, other) for other in kinds))
        assert all(issubclass(kind, head) for kind in kinds)
        assert code == errors.InvalidEnvelope.code or BY_CODE[code] is head


def test_the_socket_never_carries_a_bad_envelope() -> None:
    """The broker sees no envelopes; one that said so would be believed for a value."""
    assert errors.InvalidEnvelope.code not in BY_CODE


def test_every_code_of_the_format_has_its_class() -> None:
    section = FORMAT.read_text().split("Error codes:")[1].split("\n\n")[0]
    written = re.findall(r"`([a-z_]+)`", section)
    assert len(written) == len(set(written)) >= 14
    assert set(written) <= BY_CODE.keys()


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    _, tree, _ = errors.__doc__.split("\n\n")
    drawn = dict(re.findall(r"─ (\w+) +([0-9A-Z]{5})", tree))
    assert drawn == {
        kind.__name__: kind.sqlstate
        for kind in ALL
        if EnvelopeError in kind.__bases__ or errors.BadInput in kind.__bases__
    }
