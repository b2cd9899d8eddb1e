"""Reads JSON objects as one program writes them: the same members in the same order, whose parts are strings.

Such a value differs from the one before in its strings alone. So the quotation marks take it apart, and nothing is
parsed. A value of any other form goes to the parser, and so does the first one of each form.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from pg_envelope.foreign.bad import FAILS
from pg_envelope.foreign.encodings import Decode, exact_base64, exact_base64url, from_base64, from_hex

Pieces = Sequence[bytes]
Parts = dict[str, bytes]
# Returns the parts that it gets. Raises NotOpened.
Fit = Callable[[Parts], Parts]
Pick = Callable[[Pieces], tuple[bytes, ...]]
QUOTE, ESCAPE, NUL = b'"', b"\\", b"\0"
# A JSON string of these letters is what it says.
LETTERS = bytes(letter for letter in range(0x20, 0x7F) if letter not in QUOTE + ESCAPE)
# Decoders that take no letter which a JSON string could not have as it is; the faster one first.
EXACT: dict[Decode, tuple[Decode, ...]] = {
    from_base64: (exact_base64, exact_base64url),
    from_hex: (binascii.unhexlify,),
}
# A form is learned in as many steps as its value has strings. Values without a common form are learned in vain.
MOST_STRINGS, MOST_FORMS, MOST_LEARNED = 40, 4, 16


class Form(NamedTuple):
    """Where the parts of a value lie among its pieces, which are between its quotation marks.

    `constants` picks what is `fixed` in all values of the form, `picked` the parts, and `others` the strings that are
    no parts and differ. `decoders` reads the parts; `is_base64`: all of them are exact_base64. `flags` go into the
    parts. `example` is a value of the form.
    """

    pieces: int
    constants: Pick
    fixed: tuple[bytes, ...]
    picked: Pick
    decoders: tuple[Decode, ...]
    is_base64: bool
    iv_bytes: int
    others: Pick | None
    flags: Parts
    example: Pieces


class Forms:
    """Takes values apart, and knows the forms of a column's values so far.

    `members` finds each part in a parsed object, the ciphertext first, and `looked_at` what else of the object decides
    about a value. `parse` takes any value apart, and `fit` refuses parts that cannot be the cipher's.
    """

    def __init__(
        self,
        members: Mapping[str, Callable[[Any], Any]],
        decoders: Mapping[str, Decode],
        looked_at: Callable[[Any], Parts],
        parse: Callable[[bytes], Parts],
        fit: Fit,
    ) -> None:
        self._members, self._decoders, self._looked_at = members, decoders, looked_at
        self.names, self._parse, self._fit = tuple(members), parse, fit
        self.known: list[Form] = []
        self._left = MOST_LEARNED if all(decode in EXACT for decode in decoders.values()) else 0

    def __call__(self, value: bytes) -> Parts:
        """Returns the parts of a value. Raises one of bad.FAILS."""
        form, texts = self.find(value)
        parts = self._decoded(form, texts) if form else None
        return self.parsed(value) if parts is None else parts

    def parsed(self, value: bytes) -> Parts:
        """Does the same for a value that has no known form."""
        parts = self._fit(self._parse(value))
        self._learn(value, parts)
        return parts

    def _decoded(self, form: Form, texts: Pieces) -> Parts | None:
        """Returns None where an exact decoder does not take a letter. Then the parser has the say."""
        try:
            found = {name: decode(text) for name, decode, text in zip(self.names, form.decoders, texts, strict=True)}
            return self._fit({**found, **form.flags})
        except ValueError:
            return None

    def find(self, value: bytes) -> tuple[Form, tuple[bytes, ...]] | tuple[None, tuple[()]]:
        """Returns the form of a value and the texts of its parts, if the form is known."""
        pieces = value.split(QUOTE)
        for form in self.known:
            if len(pieces) == form.pieces and form.constants(pieces) == form.fixed:
                if form.others and not are_plain(form.others(pieces)):
                    break
                return form, form.picked(pieces)
        return None, ()

    def _learn(self, value: bytes, parts: Parts) -> None:
        """Keeps the form of a value that the parser could read."""
        if self._left and ESCAPE not in value and NUL not in value:
            self._left -= 1
            form = self._form(value.split(QUOTE), parts)
            if form and sum(_differ_in_numbers(form, known) for known in self.known) == MOST_FORMS - 1:
                # So will the next one. Forms that are never met again are in the way.
                self._left = 0
                self.known.clear()
            elif form:
                self.known[:] = [form, *self.known][:MOST_FORMS]

    def _form(self, pieces: Pieces, parts: Parts) -> Form | None:
        if len(pieces) > 2 * MOST_STRINGS:
            return None
        found, others = self._places(pieces)
        if set(found) != set(self.names):
            return None
        places = [found[name] for name in self.names]
        differ = [place for place in others if self._differs(pieces, place, {*places, *others})]
        constant = _picking(place for place in range(len(pieces)) if place not in (*places, *differ))
        decoders = tuple(_exact(self._decoders[name], pieces[found[name]]) for name in self.names)
        return Form(
            len(pieces),
            constant,
            constant(pieces),
            _picking(places),
            decoders,
            set(decoders) == {exact_base64},
            len(parts.get("iv", b"")),
            _picking(differ) if differ else None,
            {name: content for name, content in parts.items() if name not in self.names},
            pieces,
        )

    def _differs(self, pieces: Pieces, place: int, strings: set[int]) -> bool:
        """Tells whether the string at a place differs among values that otherwise have the same form."""
        kept = [at for at in range(len(pieces)) if at not in strings]
        alike = [
            form
            for form in self.known
            if form.pieces == len(pieces) and all(form.example[at] == pieces[at] for at in kept)
        ]
        return any(form.others or form.example[place] != pieces[place] for form in alike)

    def _places(self, pieces: Pieces) -> tuple[dict[str, int], list[int]]:
        """Returns where each part is, and the strings that decide nothing. It puts another string in the place of each,
        and looks at what changes.
        """
        before = self._seen(pieces)
        parts: dict[str, int] = {}
        others = []
        for place in range(1, len(pieces), 2):
            other = b"-" * (len(pieces[place]) + 1)
            after = self._seen([*pieces[:place], other, *pieces[place + 1 :]])
            changed = [name for name, told in after.items() if told != before[name]]
            if pieces[place + 1].lstrip().startswith(b":"):
                continue
            if not changed:
                others.append(place)
            elif len(changed) == 1 and after[changed[0]] == other.decode():
                parts[changed[0]] = place
        return parts, others

    def _seen(self, pieces: Pieces) -> dict[str, Any]:
        """Returns the members of the parts, and under the name of no part what else decides."""
        found = json.loads(QUOTE.join(pieces))
        try:
            looked_at = self._looked_at(found)
        except FAILS:
            looked_at = None
        return {"": looked_at, **{name: at(found) for name, at in self._members.items()}}


def _differ_in_numbers(one: Form, other: Form) -> bool:
    return one.example[::2] != other.example[::2] and _signs(one) == _signs(other)


def _signs(form: Form) -> list[bytes]:
    """Returns what is between the strings, without its numbers."""
    return [piece.translate(None, b"0123456789-.") for piece in form.example[::2]]


def are_plain(strings: Iterable[bytes]) -> bool:
    return not b"".join(strings).translate(None, LETTERS)


def _picking(places: Iterable[int]) -> Pick:
    """Returns what picks the pieces at some places, also of one place."""
    wanted = list(places)
    return itemgetter(*wanted) if len(wanted) > 1 else lambda pieces: tuple(pieces[place] for place in wanted)


def _exact(decoder: Decode, text: bytes) -> Decode:
    """Returns the first exact decoder that reads a text. Another value may have a letter that none of them reads."""
    *firsts, last = EXACT[decoder]
    return next((decode for decode in firsts if _reads(decode, text)), last)


def _reads(decode: Decode, text: bytes) -> bool:
    try:
        decode(text)
    except FAILS:
        return False
    return True
