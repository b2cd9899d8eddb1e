"""Repeated requests in the audit log: the first at once, the others as a count, and none of them lost."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Metrics
from pg_envelope.broker.watch.repeats import Repeats


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def facts(role="r", pid=1, key=1, **more):
    return {
        "op": "derive",
        "outcome": "ok",
        "peer": {"uid": 1, "pid": pid},
        "who": {"role": role, "pid": pid},
        "key_ids": [key],
        **more,
    }


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


def test_the_first_is_a_line_at_once_and_the_others_are_counted(path):
    clock = Clock()
    audit = Audit(str(path))
    repeats = Repeats(audit, 60, clock, Metrics().repeats)
    for pid in range(5):
        repeats.write("request", **facts(pid=pid, cached=bool(pid)))
    repeats.sweep()
    assert [line["who"] for line in lines(path)] == [{"role": "r", "pid": 0}]
    clock.now += 60
    repeats.sweep()
    first, second = lines(path)
    assert (second["repeated"], second["since"] >= first["time"]) == (4, True)
    assert (second["who"], second["key_ids"], second["op"]) == ({"role": "r"}, [1], "derive")
    assert second["peer"] == {"uid": 1}
    audit.close()


def test_events_of_two_kinds_are_counted_apart(path):
    audit = Audit(str(path))
    repeats = Repeats(audit, 60, Clock(), Metrics().repeats)
    for event in ("one", "other") * 3:
        repeats.write(event, peer={"uid": 1, "pid": 2})
    repeats.tell_all()
    told = [(line["event"], line["peer"], line.get("repeated")) for line in lines(path)]
    assert told == [
        *((event, {"uid": 1, "pid": 2}, None) for event in ("one", "other")),
        ("one", {"uid": 1}, 2),
        ("other", {"uid": 1}, 2),
    ]
    audit.close()


@pytest.mark.parametrize("other", [{"role": "s"}, {"key": 2}, {"outcome": "failed"}])
def test_what_says_something_else_is_a_line_of_its_own(path, other):
    audit = Audit(str(path))
    repeats = Repeats(audit, 60, Clock(), Metrics().repeats)
    for one in ({}, other, {}, other):
        repeats.write("request", **facts(**one))
    assert len(lines(path)) == 2
    audit.close()


def test_nothing_is_counted_that_could_not_be_written():
    audit = Audit("/dev/full")
    repeats = Repeats(audit, 60, Clock(), Metrics().repeats)
    for _ in range(3):
        with pytest.raises(errors.Internal):
            repeats.write("request", **facts())
    audit.close()


def test_a_log_that_fails_later_ends_the_counting(path):
    audit = Audit(str(path))
    repeats = Repeats(audit, 60, Clock(), Metrics().repeats)
    repeats.write("request", **facts())
    audit.trouble = "No space left on device"
    repeats.write("request", **facts(pid=2))
    assert [line["event"] for line in lines(path)] == ["request", "audit_recovered", "request"]
    audit.close()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.sampled_from([0, 1, 61])), max_size=60),
    st.sampled_from([0.0, 60.0]),
)
def test_every_request_is_in_the_log_once_whenever_it_is_swept(tmp_path_factory, asked, seconds):
    path, clock = tmp_path_factory.mktemp("audit") / "log", Clock()
    audit = Audit(str(path))
    repeats = Repeats(audit, seconds, clock, Metrics().repeats)
    for role, key, passing in asked:
        repeats.write("request", **facts(role=role, key=key))
        clock.now += passing
        repeats.sweep()
    repeats.tell_all()
    audit.close()
    told = Counter()
    for line in lines(path):
        told[line["who"]["role"], line["key_ids"][0]] += line.get("repeated", 1)
    assert told == Counter((role, key) for role, key, _ in asked)
