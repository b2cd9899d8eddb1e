"""The request `record`: what the audit log may be told of keys' states."""

from __future__ import annotations

from typing import Any

import pytest

from pg_envelope import errors
from pg_envelope.broker.requests.messages import RecordRequest
from pg_envelope.broker.requests.reading import read

GOOD: dict[str, Any] = {
    "database_uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "action": "rotate",
    "label": "public.customer",
    "reason": "",
    "transitions": [
        {"dek_id": 1, "from": None, "to": "active"},
        {"key_id": 4294967295, "from": "active", "to": "destroyed"},
    ],
}


def test_a_good_one() -> None:
    found = read(RecordRequest, GOOD)
    assert (found.action, found.label, found.reason) == ("rotate", "public.customer", "")
    assert [one.told() for one in found.transitions] == GOOD["transitions"]


def test_what_is_not_known_is_not_logged() -> None:
    told = {**GOOD, "transitions": [{**GOOD["transitions"][0], "wrapped": "x"}]}
    (transition,) = read(RecordRequest, told).transitions
    assert transition.told() == {"dek_id": 1, "from": None, "to": "active"}


@pytest.mark.parametrize(
    "change",
    [
        {"database_uuid": "x"},
        {"action": None},
        {"label": 1},
        {"reason": "x" * 5000},
        {"transitions": None},
        {"transitions": ["x"]},
        {"transitions": [{"from": None, "to": "active"}]},
        {"transitions": [{"dek_id": 0, "from": None, "to": "active"}]},
        {"transitions": [{"key_id": 4294967296, "from": None, "to": "active"}]},
        {"transitions": [{"dek_id": 1, "from": None, "to": "lost"}]},
        {"transitions": [{"dek_id": 1, "from": "x", "to": "active"}]},
        {"transitions": [{"dek_id": 1, "from": None, "to": ["active"]}]},
        {"transitions": [{"dek_id": 1, "from": None}]},
    ],
)
def test_bad_ones(change: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput):
        read(RecordRequest, {**GOOD, **change})
