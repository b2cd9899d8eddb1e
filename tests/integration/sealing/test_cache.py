"""SealedCache on a real redis-server that speaks TLS."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pg_envelope import errors
from pg_envelope_client import NamedKey, SealedCache
from stack.processes import Account, free_port, wait_until
from stack.tls import make_certificates
from tests.integration.sealing.fix_door import DoorOfTests

SECRET = b"ada@example.org 4Yk"

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[redis.Redis]:
    """A server that takes TLS only; its memory is written to a file on SAVE."""
    make_certificates(tmp_path, Account.ours())
    port = free_port()
    files = {"cert": "server.pem", "key": "server-key.pem", "ca-cert": "ca.pem"}
    words = [word for name, file in files.items() for word in (f"--tls-{name}-file", str(tmp_path / file))]
    words += ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        ["redis-server", *words, "--dir", str(tmp_path), "--save", ""], stdout=subprocess.DEVNULL
    )
    client = redis.Redis(port=port, ssl=True, ssl_ca_certs=str(tmp_path / "ca.pem"))

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(answers, 30, "redis-server")
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()


@pytest.fixture
def key(door: DoorOfTests) -> NamedKey:
    door.db.sql("SELECT envelope.create_key('cache', store => 'catalog')")
    door.allow(door.db.one("SELECT envelope.grant_client_key('cache', 'alice')"))
    return door.client().named("cache")


def test_a_value_comes_back_and_the_server_s_memory_holds_none(
    server: redis.Redis, key: NamedKey, tmp_path: Path
) -> None:
    cache = SealedCache(server, key, "app:")
    for name, value in {"user/7": SECRET, "empty": b"", "é": "Zoë".encode(), "zeros": bytes(70_000)}.items():
        cache.set(name, value)
        assert cache.get(name) == value
    cache.set("text", "Zoë", seconds=3600)
    assert cache.get("text") == "Zoë".encode()
    assert 0 < server.ttl("app:text") <= 3600
    cache.set("soon", "x", seconds=0.000_01)
    wait_until(lambda: cache.get("soon") is None, 10, "its end")
    server.save()
    assert SECRET not in (tmp_path / "dump.rdb").read_bytes()
    with pytest.raises(errors.BadInput):
        cache.set("\ud800", "x")
    cache.delete("text", "soon")
    cache.delete()
    assert (cache.get("text"), cache.get("never")) == (None, None)


def test_what_was_moved_or_altered_is_a_miss(server: redis.Redis, key: NamedKey) -> None:
    cache = SealedCache(server, key, "app:")
    cache.set("a", SECRET)
    sealed = server.get("app:a")
    assert isinstance(sealed, bytes)
    for other in (sealed[:-1], sealed + b"\0", sealed[:9] + b"\xff" + sealed[10:], b"", b"plain", SECRET):
        server.set("app:b", other)
        assert cache.get("b") is None
    server.set("app:b", sealed)
    server.set("other:a", sealed)
    server.set("a", sealed)
    misses = [cache.get("b"), SealedCache(server, key, "other:").get("a"), SealedCache(server, key).get("a")]
    misses += [SealedCache(server, key, "ap").get("p:a"), SealedCache(server, key).get("app:a")]
    assert misses == [None] * 5
    assert key.seal(SECRET, "app:a") is not None
    server.set("app:b", key.seal(SECRET, "app:b") or b"")
    assert cache.get("b") is None, "an envelope of another use"
    options = {name: server.connection_pool.connection_kwargs[name] for name in ("port", "ssl_ca_certs")}
    decoding = redis.Redis(ssl=True, decode_responses=True, **options)
    with pytest.raises(UnicodeDecodeError):
        SealedCache(decoding, key, "app:").get("a")
    decoding.close()


def test_a_destroyed_key_makes_misses_and_a_refused_one_an_error(
    server: redis.Redis, key: NamedKey, door: DoorOfTests
) -> None:
    cache = SealedCache(server, key)
    cache.set("a", SECRET)
    door.db.sql("SELECT envelope.rotate_key('cache')")
    assert cache.get("a") == SECRET
    door.db.sql("CALL envelope.suspend_key('cache', 'test')")
    assert cache.get("a") is None
    door.db.sql("CALL envelope.unsuspend_key('cache')")
    assert cache.get("a") == SECRET
    door.db.sql("CALL envelope.shred_key('cache', 'test')")
    assert cache.get("a") is None
