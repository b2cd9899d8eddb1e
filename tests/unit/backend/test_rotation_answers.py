"""What the broker answers to a rewrap is checked before it is written over a wrapped DEK."""

from __future__ import annotations

from typing import Any

import pytest

from pg_envelope import errors, responses
from pg_envelope.backend.host import Host
from pg_envelope.backend.lifecycle.rotation import Rewrap
from pg_envelope.backend.link import not_understood

from .fake_plpy import FakePlpy, Result

ROW = {"dek_id": 7, "wrapped": "vault:v1:old", "fingerprint": bytes(16), "kek_version": 1}
GOOD = {"dek_id": 7, "wrapped": "vault:v2:new", "kek_version": 2}


class Catalog(FakePlpy):
    """One DEK in store catalog, and what is written over it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[list[Any]] = []
        self.limits: list[int] = []

    def execute(self, *call: Any) -> Result:
        query = str(call[0])
        if "SET wrapped" in query:
            self.written.append(call[1])
            return Result([{"dek_id": 7}])
        if query.startswith("SELECT database_uuid"):
            return Result([{"uuid": "00000000-0000-0000-0000-000000000001"}])
        if "LIMIT" in query:
            _, _, store, last, size = call[1]
            self.limits += [size] if store == "catalog" else []
            return Result([ROW] if store == "catalog" and last < 7 and not self.written else [])
        return Result([{"found": 0}] if "count(*)" in query else [])

    def commit(self) -> None:
        pass


class Broker:
    """Answers every request with one message, or fails. It checks the answer's shape, as the link does."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def ask(self, op: str, **arguments: Any) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if not responses.fits(op, answer):
            raise not_understood()
        return answer


def rewrap(catalog: Catalog, broker: Broker) -> Rewrap:
    return Rewrap(Host(catalog), broker, "it's", "rewrap")  # type: ignore[arg-type]


def test_a_good_answer_is_written() -> None:
    catalog = Catalog()
    rewrap(catalog, Broker({"deks": [GOOD]})).run()
    assert catalog.written == [["it's", "catalog", [7], ["vault:v1:old"], ["vault:v2:new"], [2]]]
    assert catalog.told[-1][0] == "rewrap: KEK it's: all DEKs have version 2; 1 were rewrapped"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"deks": []},
        {"deks": [GOOD, GOOD]},
        {"deks": "x"},
        {"deks": [None]},
        {"deks": [{**GOOD, "dek_id": 8}]},
        {"deks": [{**GOOD, "wrapped": None}]},
        {"deks": [{**GOOD, "wrapped": 3}]},
        {"deks": [{**GOOD, "kek_version": None}]},
        {"deks": [{**GOOD, "kek_version": "2"}]},
        {"deks": [{**GOOD, "kek_version": True}]},
        {"deks": [{"dek_id": 7, "error": "x"}]},
    ],
)
def test_a_strange_answer_is_not(answer: dict[str, Any]) -> None:
    catalog = Catalog()
    with pytest.raises(errors.Unavailable, match="does not speak protocol") as caught:
        rewrap(catalog, Broker(answer)).run()
    assert catalog.written == []
    assert "To go on: CALL envelope.rewrap('it''s')." in str(caught.value.hint)


def test_a_deadline_makes_batches_smaller_before_it_gives_up() -> None:
    catalog = Catalog()
    broker = Broker(errors.Deadline(), errors.Deadline(), {"deks": [GOOD]})
    rewrap(catalog, broker).run()
    assert catalog.limits[:3] == [200, 100, 50]
    assert len(catalog.written) == 1


def test_a_deadline_that_stays_ends_it() -> None:
    catalog = Catalog()
    with pytest.raises(errors.Deadline) as caught:
        rewrap(catalog, Broker(errors.Deadline())).run()
    assert caught.value.detail == "0 of 0 DEKs were rewrapped before; the others are as they were"
    assert catalog.written == []
