"""Who is seen beside whom: a restart is no copy, and two that take turns are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.broker.requests.sightings import MOST_INSTANCES, RECENT_SECONDS, Sightings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def seen(*instances: str, database: str = "u") -> tuple[Sightings, Clock]:
    """One a second, in this order."""
    clock = Clock()
    sightings = Sightings(clock)
    for instance in instances:
        clock.now += 1
        sightings.note({"database_uuid": database}, {"database": f"name of {instance}", "instance": instance})
    return sightings, clock


def others(sightings: Sightings, instance: str, database: str = "u") -> list[str]:
    return [str(other["instance"]) for other in sightings.others(database, instance)]


def test_a_restart_is_no_copy() -> None:
    sightings, _ = seen("a", "a", "b", "b")
    assert others(sightings, "b") == []


def test_two_that_take_turns_are() -> None:
    sightings, clock = seen("a", "b", "a", "b")
    assert (others(sightings, "a"), others(sightings, "b")) == (["b"], ["a"])
    assert sightings.others("u", "a") == [{"database": "name of b", "instance": "b", "seconds": 0}]
    clock.now += RECENT_SECONDS
    assert (others(sightings, "a"), others(sightings, "b")) == ([], [])


def test_another_database_and_a_standby_are_none_of_it() -> None:
    sightings, _ = seen("a", "b", "a")
    assert others(sightings, "a", "v") == []
    sightings.note({"database_uuid": "u"}, {"database": "standby"})
    sightings.note({"kek": "default"}, {"database": "x", "instance": "c"})
    assert others(sightings, "a") == ["b"]
    assert others(sightings, "c") == []


@given(st.lists(st.sampled_from([f"i{number}" for number in range(MOST_INSTANCES + 5)]), max_size=100))
def test_it_is_bounded_and_nobody_is_its_own_other(instances: list[str]) -> None:
    sightings, _ = seen(*instances)
    for instance in set(instances):
        found = others(sightings, instance)
        assert instance not in found
        assert len(found) < MOST_INSTANCES
