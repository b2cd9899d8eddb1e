"""Under a KEK's name there is another KEK: no key is made until the right one is back, and status() says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pg_envelope.broker.kms.providers import keyring_file
from stack.processes import private_file, wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY, failure

PASSPHRASE = "correct horse battery"
BASE, PURPOSE = "BASE_SECRET", "PURPOSE_SECRET_APP"
FIRST, SECOND = "1st." * 10, "2nd." * 10
STATUS = "SELECT state, detail, hint FROM envelope.status() WHERE check_name = 'kek app'"
STATEMENTS = (
    "SELECT envelope.create_key('another', kek => 'app')",
    "SELECT envelope.rotate('card')",
    "SELECT envelope.rotate_key('first')",
    """CALL envelope.protect('plain', '["secret"]', 'app')""",
    """CALL envelope.protect('plain', '["secret"]', 'app', scope => 'subject', scope_column => 'id')""",
    "CALL envelope.move_kek('default', 'app')",
)


class Kek:
    """The KEK `app`, of one kind: `change` puts another in its place, `restore` the right one back."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.directory = stack.broker.directory / "kek"
        self.directory.mkdir()
        stack.broker.account.own_tree(self.directory)

    def configure(self, kms: dict[str, str], key: str = "app") -> None:
        self.stack.broker.configure({"kms": {"other": kms}, "kek": {"app": {"kms": "other", "key": key}}})
        self.stack.broker.restart()

    def begin(self) -> None: ...
    def change(self) -> None: ...
    def restore(self) -> None: ...


class Secrets(Kek):
    def begin(self) -> None:
        self._secrets(FIRST, SECOND)
        self.configure({"provider": "secrets", "base_secret": BASE, "purpose_secret": "PURPOSE_SECRET"})

    def change(self) -> None:
        self._secrets(SECOND, FIRST)

    def restore(self) -> None:
        self._secrets(FIRST, SECOND)

    def _secrets(self, base: str, purpose: str) -> None:
        self.stack.broker.environment = {BASE: base, PURPOSE: purpose}
        self.stack.broker.restart()


class Keyring(Kek):
    def begin(self) -> None:
        self._make()
        private_file(self.directory / "passphrase", PASSPHRASE, self.stack.broker.account)
        names = {f"{name}_file": str(self.directory / name) for name in ("keyring", "passphrase")}
        self.configure({"provider": "keyring", **names})

    def change(self) -> None:
        (self.directory / "keyring").rename(self.directory / "right")
        self._make()
        self.stack.broker.restart()

    def restore(self) -> None:
        (self.directory / "right").replace(self.directory / "keyring")
        self.stack.broker.restart()

    def _make(self) -> None:
        keyring_file.create_keyring(self.directory / "keyring", PASSPHRASE, 1 << 14)
        keyring_file.add_kek(self.directory / "keyring", PASSPHRASE, "app")
        self.stack.broker.account.own_tree(self.directory)


class Transit(Kek):
    """Two transit keys, since one that was deleted does not come back."""

    def begin(self) -> None:
        policy = self.stack.openbao.request("GET", POLICY)["data"]["policy"]
        more = 'path "transit/*" { capabilities = ["read", "update"] }\n'
        self.stack.openbao.request("PUT", POLICY, {"policy": policy + more})
        for name in ("right", "wrong"):
            self.stack.openbao.request("POST", f"transit/keys/{name}", {"type": "aes256-gcm96", "derived": True})
        self.stack.broker.configure({"kek": {"app": {"kms": "main", "key": "right"}}})
        self.stack.broker.restart()

    def change(self) -> None:
        self._key("wrong")

    def restore(self) -> None:
        self._key("right")

    def _key(self, name: str) -> None:
        self.stack.broker.configure({"kek": {"app": {"key": name}}})
        self.stack.broker.restart()


@pytest.fixture(params=[Secrets, Keyring, Transit])
def kek(request: pytest.FixtureRequest, breakable: Stack) -> Iterator[Kek]:
    kind: Callable[[Stack], Kek] = request.param
    made = kind(breakable)
    made.begin()
    yield made
    breakable.broker.environment = {}
    for file in made.directory.iterdir():
        file.unlink()
    made.directory.rmdir()


@pytest.fixture
def card(kek: Kek, db: Database) -> Database:
    db.sql("CREATE TABLE card (id int PRIMARY KEY, secret text)")
    db.sql("INSERT INTO card VALUES (1, 'card 1')")
    db.sql("""CALL envelope.protect('card', '["secret"]', 'app')""")
    db.sql("SELECT envelope.create_key('first', kek => 'app')")
    db.sql("CREATE TABLE plain (id int PRIMARY KEY, secret text)")
    db.sql("INSERT INTO plain VALUES (1, 'plain 1')")
    return db


def test_no_key_is_made_under_it_and_nothing_is_lost(kek: Kek, card: Database) -> None:
    before = card.sql("SELECT dek_id, kek, wrapped FROM envelope_private.dek ORDER BY 1")
    wait_until(lambda: card.sql(STATUS)[0][0] == "ok", 60, "the KEK's first probe")
    kek.change()
    for statement in STATEMENTS:
        sqlstate, text, hint = failure(card.admin, statement)
        assert (sqlstate, text) == ("55000", "pg_envelope: the KEK is not the one that wrapped this database's keys")
        assert "[kek.app]" in hint
    ((state, detail, hint),) = card.sql(STATUS)
    assert (state, "opens none of the DEKs" in detail, "[kek.app]" in hint) == ("failed", True, True)
    assert card.sql("SELECT dek_id, kek, wrapped FROM envelope_private.dek ORDER BY 1") == before
    kek.restore()
    wait_until(lambda: card.sql(STATUS)[0][0] == "ok", 60, "the KEK's first probe")
    assert card.one("SELECT secret FROM card") == "card 1"
    for statement in STATEMENTS[:4]:
        card.sql(statement)
    assert card.one("SELECT secret FROM plain") == "plain 1"


@pytest.mark.parametrize("kek", [Keyring], indirect=True)
def test_a_database_without_keys_begins_under_any(kek: Kek, db: Database) -> None:
    kek.change()
    db.sql("SELECT envelope.create_key('first', kek => 'app')")
    assert db.sql(STATUS)[0][0] != "failed"


@pytest.mark.parametrize("kek", [Keyring], indirect=True)
def test_one_dek_that_is_gone_stops_nothing(kek: Kek, card: Database) -> None:
    """A wrap that was damaged is a damaged wrap: the others say that the KEK is right."""
    card.sql(
        "UPDATE envelope_private.dek SET wrapped = left(wrapped, -8) || 'AAAAAAA='"
        " WHERE dek_id = (SELECT max(dek_id) FROM envelope_private.dek WHERE kek = 'app')"
    )
    kek.stack.broker.restart()
    card.sql("SELECT envelope.create_key('another', kek => 'app')")
