"""The host: values go as parameters, errors by PostgreSQL's own fields."""

from __future__ import annotations

from typing import Any

import pytest

from pg_envelope import errors
from pg_envelope.backend.host import Host
from tests.unit.backend.fake_plpy import FakePlpy, PlpyError, Result, SPIError


def test_a_plan_is_prepared_once_and_values_are_parameters() -> None:
    plpy = FakePlpy([{"a": 1}])
    host = Host(plpy)
    for value in ("x", "y"):
        assert host.rows("SELECT $1", ["text"], [value]) == [{"a": 1}]
    assert plpy.prepared == [("SELECT $1", ["pg_catalog.text"])]
    assert plpy.executed == [("SELECT $1", ["x"]), ("SELECT $1", ["y"])]


def test_row_is_the_first_or_none() -> None:
    assert Host(FakePlpy([{"a": 1}, {"a": 2}])).row("q") == {"a": 1}
    assert Host(FakePlpy()).row("q") is None


def test_run_counts_rows() -> None:
    assert Host(FakePlpy([{}, {}])).run("UPDATE t") == 2


def test_notices_leave_out_what_they_do_not_have() -> None:
    plpy = FakePlpy()
    Host(plpy).notice("m", hint="h")
    assert plpy.told == [("m", {"hint": "h"})]


def test_an_error_bears_the_name_of_the_package() -> None:
    """PL/Python prints "<class>: " before an exception's text."""
    with pytest.raises(PlpyError) as raised:
        Host(FakePlpy()).fail(errors.InvalidEnvelope())
    assert type(raised.value).__name__ == "pg_envelope"
    assert type(raised.value).__module__ == "builtins"
    assert raised.value.sqlstate == "XX001"  # type: ignore[attr-defined]


def test_only_errors_of_statements_are_passed_on() -> None:
    host = Host(FakePlpy())
    assert host.passed_on(PlpyError("no")) is None
    assert host.passed_on(ValueError("no")) is None


class Stepping(FakePlpy):
    """Runs a step as the SQL function does: what fails inside arrives as PostgreSQL's error."""

    host: Host

    def execute(self, *call: Any) -> Result:
        try:
            self.host.run_step("caller")
        except Exception as error:
            raise SPIError(str(error), "58000") from None
        return Result()


@pytest.fixture
def stepping() -> Host:
    plpy = Stepping()
    plpy.host = Host(plpy)
    return plpy.host


def test_a_step_as_the_owner_knows_who_began_it(stepping: Host) -> None:
    assert stepping.as_owner(lambda: stepping.acting) == "caller"
    assert stepping.acting is None


def test_a_step_that_fails_raises_its_own_error(stepping: Host) -> None:
    def step() -> None:
        raise errors.KeyDestroyed

    with pytest.raises(errors.KeyDestroyed):
        stepping.as_owner(step)
    assert stepping.acting is None


def test_a_step_runs_once(stepping: Host) -> None:
    def again() -> None:
        stepping.run_step("intruder")

    with pytest.raises(errors.NotPermitted):
        stepping.as_owner(again)
    with pytest.raises(errors.NotPermitted):
        stepping.run_step("intruder")


def test_a_step_within_a_step(stepping: Host) -> None:
    assert stepping.as_owner(lambda: [stepping.as_owner(lambda: "inner"), stepping.acting]) == ["inner", "caller"]
