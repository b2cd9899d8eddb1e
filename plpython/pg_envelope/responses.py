"""Declares once what the broker answers: FORMAT.md section 4.

Tests compare the page, and the answers of a real broker, with these tables. They are plain tables, because dataclasses
would cost every new connection their import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pg_envelope import errors, wire
from pg_envelope.typed import Any

# The kind of a member: a type; the name of an object; [kinds of an item]; {str: the kind of each value}.
Members = Mapping[str, Any]

OBJECTS: dict[str, Members] = {
    "Kek": {
        "provider": str,
        "state": str,
        "detail": str | None,
        "hint": str | None,
        "store": str,
        "version": int | None,
        "oldest": int | None,
        "made_at": int | float | None,
        "deletable": bool | None,
        "tls": str | None,
        "databases": ["Database"],
    },
    "Database": {"uuid": str, "name": str},
    "FieldKey": {"key_id": int, "key": str},
    "FailedKey": {"key_id": int, "error": dict},
    "NewDek": {"dek_id": int, "wrapped": str | None, "fingerprint": str, "kek_version": int},
    "MovedDek": {"dek_id": int, "wrapped": str | None, "kek_version": int},
    "SealedDek": {"dek_id": int, "sealed": str},
    "ProvedDek": {"dek_id": int},
    "ErasedDek": {"dek_id": int, "entry": dict, "unchecked": [str]},
    "FailedDek": {"dek_id": int, "error": dict},
    "Sighting": {"database": str, "instance": str, "seconds": int},
}
# An operation may have several responses: the request's form decides which one it gets.
RESPONSES: dict[str, tuple[Members, ...]] = {
    "status": (
        {
            "version": str,
            "protocol": int,
            "environment": str,
            "epoch": int,
            "audit": dict | None,
            "reads": dict | None,
            "reads_anchor": str | None,
            "reads_signed_at": int | float | None,
            "fips": bool | None,
            "keks": {str: "Kek"},
        },
    ),
    "generate": ({"wrapped": str | None, "fingerprint": str, "kek_version": int}, {"deks": ["NewDek"]}),
    "derive": ({"ttl": int | float, "epoch": int, "keys": ["FieldKey", "FailedKey"]},),
    "rewrap": ({"deks": ["MovedDek", "FailedDek"]},),
    "rotate_kek": ({"kek_version": int},),
    "flush": ({"epoch": int},),
    "schedule": ({},),
    "record": ({},),
    "keys_backup": ({"public_key": str, "environment": str, "deks": ["SealedDek", "FailedDek"]},),
    "keys_return": ({"public_key": str, "environment": str, "deks": ["MovedDek", "FailedDek"]},),
    "prove": ({"deks": ["ProvedDek", "FailedDek"]},),
    "refused": ({},),
    "failed": ({},),
    "sign": ({"statement_signed": str, "signature": str, "public_key": str},),
    "plant": ({"salt": str, "keys": ["FieldKey"]},),
    "erase": ({"epoch": int, "deks": ["ErasedDek"]},),
    "attach": ({"statement_key": str},),
    "drain": ({},),
    "spend": ({"granted": int},),
    "erasures": (
        {
            "lines": int,
            "head": str,
            "public_key": str,
            "count": int,
            "entries": [dict],
            "dead": [int],
            "others": ["Sighting"],
        },
    ),
}


def read(op: str, body: bytes) -> wire.Message:
    """Returns the response in the body of a frame. Raises the error that it tells, or Unavailable for anything else."""
    try:
        response = wire.parse(body)
    except errors.BadInput:
        response = {}
    if response.get("v") != wire.PROTOCOL:
        raise not_understood()
    if response.get("ok") is not True:
        raise refusal(response.get("error"))
    if not fits(op, response):
        raise not_understood()
    return response


def refusal(error: object) -> errors.EnvelopeError:
    """Returns the error that the broker answered. Of an answer in a strange form it takes only the members that are
    text.
    """
    said = error if isinstance(error, dict) else {}
    return wire.error_from({name: text for name, text in said.items() if isinstance(text, str)})


def not_understood() -> errors.Unavailable:
    """Returns the error for an answer that no broker of this protocol gives. The error repeats nothing of the
    answer.
    """
    return errors.Unavailable(
        f"what answers at the broker's socket does not speak protocol {wire.PROTOCOL}",
        hint="Do the versions of broker and extension agree? Compare pg-envelope --version and envelope.status().",
    )


def fits(op: str, response: Mapping[str, Any]) -> bool:
    """Tells whether a response has the members of its operation. Other members are passed over."""
    return any(_has(response, members) for members in RESPONSES[op])


def _has(found: Mapping[str, Any], members: Members) -> bool:
    # Loops, not all(...): a read of many subjects comes by here with each key.
    for name, kind in members.items():  # noqa: SIM110
        if not _is(found.get(name), kind):
            return False
    return True


def _is(value: object, kind: Any) -> bool:
    if kind is str or kind is dict:
        return isinstance(value, kind)
    if isinstance(kind, str):
        return isinstance(value, dict) and _has(value, OBJECTS[kind])
    if isinstance(kind, list):
        return isinstance(value, list) and _each(value, kind)
    if isinstance(kind, dict):
        return isinstance(value, dict) and _each(value.values(), [kind[str]])
    # JSON's true is no number, but Python's True is an int.
    return isinstance(value, kind) and (type(value) is not bool or kind in (bool, bool | None))


def _each(items: Iterable[object], kinds: list[Any]) -> bool:
    for item in items:
        for kind in kinds:
            if _is(item, kind):
                break
        else:
            return False
    return True
