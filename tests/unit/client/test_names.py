"""Names that go into policy paths: none may widen a path."""

from __future__ import annotations

import pytest

from pg_envelope_client.problems import USAGE, Problem
from pg_envelope_client.setup import names


@pytest.mark.parametrize("value", ["*", "a*", "+", "a/b", "..", "", "-a", 'a"b', "a b", "a\n", "ä", "x" * 64])
def test_kek_refuses(value: str) -> None:
    with pytest.raises(Problem) as caught:
        names.kek(value)
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize("value", ["default", "tenant-7", "A_1"])
def test_kek_accepts(value: str) -> None:
    assert names.kek(value) == value


@pytest.mark.parametrize("value", ["", "/", "*", "kv/*", "kv/+/x", "../sys", "a/../b", "a//b", 'a"', "a b", "a\n"])
def test_path_refuses(value: str) -> None:
    with pytest.raises(Problem):
        names.path(value, "--kv-path")


@pytest.mark.parametrize(("value", "path"), [("kv", "kv"), ("/team/kv/", "team/kv"), ("a.b/c_d-1", "a.b/c_d-1")])
def test_path_accepts(value: str, path: str) -> None:
    assert names.path(value, "--kv-path") == path


def test_policy_is_lower_case() -> None:
    with pytest.raises(Problem):
        names.policy("Broker")
    assert names.policy("broker-2") == "broker-2"


@pytest.mark.parametrize(
    "value",
    [
        "http://vault.example:8200",
        "http://127.0.0.1.evil.example",
        "https://user:secret@vault.example",
        "ftp://vault.example",
        "vault.example:8200",
        "https://",
        "https://vault.example/?a=b",
        "",
    ],
)
def test_address_refuses_and_does_not_repeat_it(value: str) -> None:
    with pytest.raises(Problem) as caught:
        names.address(value)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "value", ["https://vault.example:8200", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost:1"]
)
def test_address_accepts(value: str) -> None:
    assert names.address(value + "/") == value
