"""Each integration under a running client, while its keys are rotated, suspended, revoked, erased, and out of reach."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import redis
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, storages
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from pg_envelope import errors
from pg_envelope_client import KeyClient, SealedCache, SealedReader, open_document, open_file, seal_document, seal_file
from pg_envelope_client.django.storage import SealedStorage
from pg_envelope_client.sealing.file_table import FileTable
from tests.fix_django import configure
from tests.fix_stack import Database
from tests.integration.orms.fix_sealed import TABLES, Customer, allow, engine_of
from tests.integration.sealing.fix_door import DoorOfTests
from tests.integration.sealing.test_cache import server

__all__ = ["server"]
FIELDS, SEARCHES = [("customer", "email"), ("customer", "born"), ("item", "label")], [("customer", "email_search")]


class Use(NamedTuple):
    """How one integration keeps a text under a name, and gives it back. Under `misses` it finds nothing."""

    put: Callable[[str, str], object]
    get: Callable[[str], str | None]
    misses: tuple[type[errors.EnvelopeError], ...] = ()


class Shop:
    """A client that runs, with all integrations, and what is done to its keys meanwhile."""

    def __init__(self, door: DoorOfTests, uses: dict[str, Use], keys: KeyClient) -> None:
        self.db, self.uses, self.keys = door.db, uses, keys

    def rotate(self) -> None:
        self.db.sql("SELECT envelope.rotate_key('app'), envelope.rotate('customer')")

    def suspend(self) -> None:
        self.db.sql("CALL envelope.suspend_key('app', 'test')")
        self.db.sql("CALL envelope.suspend('customer')")

    def unsuspend(self) -> None:
        self.db.sql("CALL envelope.unsuspend_key('app')")
        self.db.sql("CALL envelope.unsuspend('customer')")

    def revoke(self) -> None:
        self._grants("revoke")
        self.db.sql("SELECT envelope.flush('test')")

    def grant(self) -> None:
        self._grants("grant")

    def _grants(self, verb: str) -> None:
        self.db.sql(f"SELECT envelope.{verb}_client_key('app', 'alice')")
        for column in ("email", "born"):
            self.db.sql(f"SELECT envelope.{verb}_client('customer', '{column}', 'alice')")
        self.db.sql(f"SELECT envelope.{verb}_client_search('customer', 'email_search', 'alice')")

    def put(self, name: str) -> None:
        for use in self.uses.values():
            use.put(name, f"{name}@x")

    def refused(self, of: type[errors.EnvelopeError], names: list[str]) -> None:
        """Each integration gives this error, or finds nothing."""
        for title, use in self.uses.items():
            with pytest.raises(of):
                pytest.fail(f"{title} wrote under {of.__name__}: {use.put('refused', 'refused@x')}")
            for name in names:
                if of in use.misses:
                    assert use.get(name) is None
                    continue
                with pytest.raises(of):
                    pytest.fail(f"{title} read under {of.__name__}: {use.get(name)}")

    def holds(self, names: list[str]) -> None:
        found = {title: [use.get(name) for name in names] for title, use in self.uses.items()}
        assert found == {title: [f"{name}@x" for name in names] for title in self.uses}


def of_named_key(keys: KeyClient, db: Database, store: redis.Redis) -> Iterator[tuple[str, Use]]:
    key, kept = keys.named("app"), dict[str, Any]()
    yield "named key", Use(lambda n, v: kept.update({n: key.seal(v, n)}), lambda n: key.open(kept[n], n))

    def put_document(name: str, value: str) -> None:
        kept[f"document {name}"] = json.dumps(seal_document(key, {"a": [{"b": value}]}, ["a.*.b"], name))

    def document(name: str) -> Any:
        return open_document(key, json.loads(kept[f"document {name}"]), name)["a"][0]["b"]

    yield "document", Use(put_document, document)

    def put_file(name: str, value: str) -> None:
        seal_file(key, io.BytesIO(value.encode()), target := io.BytesIO(), name)
        kept[f"file {name}"] = target.getvalue()

    def file(name: str) -> str:
        open_file(key, io.BytesIO(kept[f"file {name}"]), target := io.BytesIO(), name)
        return target.getvalue().decode()

    def read(name: str) -> str:
        return SealedReader(key, io.BytesIO(kept[f"file {name}"]), name).read().decode()

    yield "file", Use(put_file, file)
    yield "reader", Use(put_file, read)
    table = FileTable(db.connect("owner"), key, "files")
    table.create()

    def put_row(name: str, value: str) -> None:
        table.delete(name)
        table.write(name, io.BytesIO(value.encode()))

    yield "table of files", Use(put_row, lambda n: table.open(n).read().decode())
    storage = SealedStorage(lambda: key)

    def put_stored(name: str, value: str) -> None:
        storage.delete(name)
        storage.save(name, ContentFile(value.encode()))

    yield "storage of Django", Use(put_stored, lambda n: storage.open(n).read().decode())
    cache = SealedCache(store, key, "app:")
    yield (
        "cache",
        Use(
            cache.set, lambda n: (found := cache.get(n)) and found.decode(), (errors.KeySuspended, errors.KeyDestroyed)
        ),
    )


def of_columns(keys: KeyClient, engine: Any) -> Iterator[tuple[str, Use]]:
    email, kept = keys.field("customer", "email"), dict[str, Any]()
    number = UUID(int=1)
    yield "column", Use(lambda n, v: kept.update({n: email.seal(v, number)}), lambda n: email.open(kept[n], number))

    def put(name: str, value: str) -> None:
        with Session(engine) as session, session.begin():
            session.execute(delete(Customer).where(Customer.login == name))
            session.add(Customer(login=name, email=value))

    def get(name: str) -> str | None:
        with Session(engine) as session:
            return session.scalars(select(Customer.email).where(Customer.login == name)).one()

    def sought(name: str) -> str | None:
        with Session(engine) as session:
            return session.scalars(select(Customer.email).where(Customer.email == f"{name}@X")).one_or_none()

    yield "SQLAlchemy", Use(put, get)
    # An erasure takes the tokens, too.
    yield "SQLAlchemy, by token", Use(put, sought, (errors.KeyDestroyed,))


@pytest.fixture
def shop(door: DoorOfTests, server: redis.Redis, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    configure()
    monkeypatch.setitem(storages._storages, "sealed", FileSystemStorage(location=tmp_path / "files"))
    # The broker of the tests may not delete keys of the store `vault`.
    door.db.sql(TABLES.replace("{}}')", "{}}', store => 'catalog')"))
    door.db.sql("SELECT envelope.create_key('app', store => 'catalog')")
    named = door.db.one("SELECT envelope.grant_client_key('app', 'alice')")
    keys = allow(door, FIELDS, SEARCHES, named)
    with engine_of(door, keys) as engine:
        yield Shop(door, dict([*of_named_key(keys, door.db, server), *of_columns(keys, engine)]), keys)


CHANGES = st.lists(st.sampled_from(["rotate", "suspend", "unsuspend", "revoke", "grant", "put"]), max_size=7)


def test_every_integration_follows_its_keys(shop: Shop) -> None:
    """The twin is a word for the state: what each integration may do follows from it alone."""
    counted = iter(range(10_000))

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @example(["put", "rotate", "put", "suspend", "revoke", "grant", "unsuspend"])
    @given(CHANGES)
    def follows(changes: list[str]) -> None:
        names, state = [f"n{next(counted)}"], set[str]()
        shop.put(names[0])
        for change in [*changes, "unsuspend", "grant"]:
            if change == "put" and not state:
                names.append(f"n{next(counted)}")
                shop.put(names[-1])
            elif change == "rotate" and "suspended" not in state:
                shop.rotate()
            elif change in ("suspend", "unsuspend") and (change == "suspend") is not ("suspended" in state):
                getattr(shop, change)()
                state ^= {"suspended"}
            elif change in ("revoke", "grant") and (change == "revoke") is not ("revoked" in state):
                getattr(shop, change)()
                state ^= {"revoked"}
            if not state:
                shop.holds(names)
            else:
                shop.refused(errors.NotPermitted if "revoked" in state else errors.KeySuspended, names)

    follows()


def test_an_erasure_reaches_every_integration(shop: Shop) -> None:
    shop.put("ada")
    shop.holds(["ada"])
    shop.db.sql("CALL envelope.shred_key('app', 'test')")
    shop.db.sql("CALL envelope.shred('customer', NULL, 'test')")
    shop.refused(errors.KeyDestroyed, ["ada"])


def test_without_broker_and_held_keys_every_integration_says_so(shop: Shop, door: DoorOfTests) -> None:
    shop.put("ada")
    door.broker.stop()
    shop.holds(["ada"])
    shop.keys.refresh()
    shop.refused(errors.Unavailable, ["ada"])
    door.broker.start()
    shop.holds(["ada"])
