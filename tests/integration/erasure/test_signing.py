"""Signed statements: what the broker signs, with which key, and what it refuses."""

from __future__ import annotations

import base64
import json
from typing import Any

import psycopg
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.fix_stack import Database

SIGN = """
DO LANGUAGE plpython3u $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
import json
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.lifecycle.signing import Signing
s = GD['pg_envelope']
signed = Signing(s.host, s.link, Keys(s.host, s.link)).sign({'rows': 3, 'what': 'test'})
plpy.execute(plpy.prepare('SELECT set_config($1, $2, false)', ['text', 'text']), ['test.signed', json.dumps(signed)])
$$"""


def signed(db: Database) -> tuple[str, str, str]:
    """text, signature and public key of a statement that the database had signed."""
    db.sql(SIGN)
    text, signature, public_key = json.loads(db.one("SELECT current_setting('test.signed')"))
    return text, signature, public_key


def verify(text: str, signature: str, public_key: str) -> dict[str, Any]:
    """What was signed. Raises InvalidSignature."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
    key.verify(base64.b64decode(signature), text.encode())
    return dict(json.loads(text))


def test_it_says_who_signed_what_and_where(db: Database) -> None:
    text, signature, public_key = signed(db)
    told = verify(text, signature, public_key)
    assert told["statement"] == {"rows": 3, "what": "test"}
    assert told["database"] == str(db.one("SELECT database_uuid FROM envelope_private.installation"))
    assert (told["environment"], told["who"]["role"], told["pg_envelope"]) == ("default", "postgres", 1)
    with pytest.raises(InvalidSignature):
        verify(text.replace('"rows":3', '"rows":4'), signature, public_key)


def test_one_key_signs_all_until_it_is_rotated(db: Database) -> None:
    first, again = signed(db)[2], signed(db)[2]
    db.sql("SELECT envelope.rotate_key('pg_envelope receipts')")
    second = signed(db)[2]
    assert first == again != second
    assert db.sql("SELECT * FROM envelope.signing_keys()") == [(1, "decrypt-only", first), (2, "active", second)]


def test_the_key_goes_under_the_kek_that_the_database_uses(db: Database) -> None:
    assert db.sql("SELECT * FROM envelope.signing_keys()") == []
    signed(db)
    assert db.sql("SELECT name, kek FROM envelope.keys") == [("pg_envelope receipts", "default")]


def test_the_audit_log_has_the_hash_and_not_the_statement(db: Database) -> None:
    signed(db)
    events = [json.loads(line) for line in db.stack.broker.audit_log.read_text().splitlines()]
    last = [event for event in events if event.get("op") == "sign"][-1]
    assert (last["outcome"], len(last["signed"]), "rows" in json.dumps(last)) == ("ok", 64, False)


def test_a_curious_role_may_not_ask(db: Database, alice: psycopg.Connection[Any]) -> None:
    signed(db)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("SELECT * FROM envelope.signing_keys()")
