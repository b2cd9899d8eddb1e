"""The kinds of masks: the columns that each fits, its arguments, and how it is made. No kind runs SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from pg_envelope import errors
from pg_envelope.backend.masks import amounts, texts
from pg_envelope.backend.masks.texts import Mask
from pg_envelope.records import dataclass
from pg_envelope.typed import Any

CLEAR = "clear"
HINT = "docs/masks.md lists the kinds, with their arguments and the types of columns that they fit."
# The member by which any mask lets its readers use the search columns.
SEARCH = "search"
MOST_SHOWN = 20
# The greatest exponent of an argument: more would take long to compute.
MOST_EXPONENT = 100
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class MaskedColumn:
    """A masked column. `category` is pg_type's letter. `is_strict`: a constraint of its domain may refuse a mask.

    `base_type` is the type of pg_catalog under its domains, or empty; `plain_type` is the same with its length.
    """

    base_type: str
    plain_type: str
    category: str
    is_bytes: bool
    is_strict: bool


@dataclass(frozen=True)
class MaskKind:
    """`needs` has the arguments by name, each with its check. `make` takes arguments, column and secret."""

    make: Callable[[Arguments, MaskedColumn, bytes], Mask | None]
    fits: Callable[[MaskedColumn], bool]
    needs: Mapping[str, Callable[[Any, MaskedColumn], bool]]
    is_constant: bool = False


def _every(_: MaskedColumn) -> bool:
    return True


def _no_bytes(column: MaskedColumn) -> bool:
    return not column.is_bytes


def _free(column: MaskedColumn) -> bool:
    return not column.is_strict and not column.is_bytes


def _text(column: MaskedColumn) -> bool:
    return _free(column) and column.category == "S"


def _number(column: MaskedColumn) -> bool:
    return _free(column) and column.base_type in amounts.NUMBERS


def _date(column: MaskedColumn) -> bool:
    return _free(column) and column.base_type in amounts.DATES


def _is_text(given: Any, _: MaskedColumn) -> bool:
    return isinstance(given, str) and "\0" not in given


def _is_name(given: Any, _: MaskedColumn) -> bool:
    return isinstance(given, str) and bool(given)


def _is_length(given: Any, _: MaskedColumn) -> bool:
    return type(given) is int and 0 <= given <= MOST_SHOWN


def _is_amount(given: Any, column: MaskedColumn) -> bool:
    """Tells whether it is a number above 0, and a whole one for a column of whole numbers."""
    try:
        amount = Decimal(str(given))
    except InvalidOperation:
        return False
    if type(given) not in (int, float, str) or not amount.is_finite() or amount <= 0:
        return False
    # First, because int() would write out every digit.
    if max(abs(amount.adjusted()), abs(int(amount.as_tuple().exponent))) > MOST_EXPONENT:
        return False
    return column.base_type not in amounts.WHOLE or amount == int(amount)


def _whole(given: Any) -> Decimal:
    amount = Decimal(str(given))
    return Decimal(int(amount)) if amount == int(amount) else amount


def _fixed(mask: Mask) -> Callable[[Arguments, MaskedColumn, bytes], Mask]:
    return lambda *_: mask


KINDS = {
    CLEAR: MaskKind(lambda *_: None, _every, {}),
    "null": MaskKind(_fixed(texts.nothing), _every, {}, is_constant=True),
    "text": MaskKind(lambda given, *_: texts.constant(given["text"]), _no_bytes, {"text": _is_text}, is_constant=True),
    "hash": MaskKind(lambda _given, _column, secret: texts.keyed_hash(secret), _text, {"secret": _is_name}),
    "partial": MaskKind(
        lambda given, *_: texts.partial(given["first"], given["last"]), _text, {"first": _is_length, "last": _is_length}
    ),
    "email": MaskKind(_fixed(texts.email), _text, {}),
    "phone": MaskKind(_fixed(texts.phone), _text, {}),
    "pan": MaskKind(_fixed(texts.pan), _text, {}),
    "iban": MaskKind(_fixed(texts.iban), _text, {}),
    "year": MaskKind(_fixed(amounts.year), _date, {}),
    "bucket": MaskKind(lambda given, *_: amounts.bucket(_whole(given["size"])), _number, {"size": _is_amount}),
    "noise": MaskKind(
        lambda given, column, secret: amounts.noise(
            secret, _whole(given["spread"]), column.base_type, column.plain_type
        ),
        _number,
        {"secret": _is_name, "spread": _is_amount},
    ),
}


def check(name: str | None, arguments: Any, column: MaskedColumn) -> None:
    """Raises BadInput for an unknown kind, one that does not fit the column, and wrong arguments."""
    kind = KINDS.get(name or "")
    if kind is None:
        full = " The kind clear shows the whole value; null and text hide it." if name == "full" else ""
        raise errors.BadInput("unknown kind of mask", detail=f"Kinds: {', '.join(KINDS)}.{full}", hint=HINT)
    if not kind.fits(column):
        domain = " A constraint of the column's domain could refuse masks." if column.is_strict else ""
        raise errors.BadInput(
            f"a mask of kind {name} does not fit the column",
            detail=f"Its type is {column.plain_type}.{domain}",
            hint=HINT,
        )
    _check_arguments(str(name), kind, arguments, column)


def _check_arguments(name: str, kind: MaskKind, arguments: Any, column: MaskedColumn) -> None:
    if not isinstance(arguments, dict):
        raise errors.BadInput("the arguments of a mask must be an object", hint=HINT)
    given = {known: value for known, value in arguments.items() if known != SEARCH or name == CLEAR}
    if given.keys() != kind.needs.keys():
        needed = ", ".join(kind.needs) or "none"
        raise errors.BadInput(f"a mask of kind {name} has other arguments", detail=f"It needs: {needed}.", hint=HINT)
    if type(arguments.get(SEARCH, True)) is not bool:
        raise errors.BadInput(f"{SEARCH} must be true or false", hint=HINT)
    for known, fits in kind.needs.items():
        if not fits(given[known], column):
            raise errors.BadInput(f"the argument {known} of a mask of kind {name} is out of range", hint=HINT)


def make(name: str, arguments: Arguments, column: MaskedColumn, secret: bytes) -> Mask | None:
    """Returns the mask of a rule; None: the value itself."""
    return KINDS[name].make(arguments, column, secret)
