"""Tenants: suspended alone, under a KEK of their own, moved there, and cut off by the tenant's own KMS."""

from __future__ import annotations

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import QUICK, failure

from .fix_byok import Tenant

ACME = "SELECT body FROM doc WHERE tenant = 'acme' ORDER BY id"
ZEN = "SELECT body FROM doc WHERE tenant = 'zen' ORDER BY id"
KEYS = "SELECT scope, version, state, kek FROM envelope_private.dek ORDER BY scope, version"
BRING = "CALL envelope.move_kek('default', 'own', 'catalog', rel => 'doc', tenant => 'acme')"
SUSPENDED = ("55000", "pg_envelope: the key is suspended")
DENIED = ("58000", "pg_envelope: the KMS refused the broker's login or request")


def reads(session: psycopg.Connection[tuple[str]], statement: str) -> bool:
    try:
        session.execute(statement)  # type: ignore[call-overload]
    except psycopg.errors.SystemError:
        return False
    return True


def test_one_tenant_is_suspended_and_no_other(docs: Database) -> None:
    warm = docs.connect()
    assert warm.execute("SELECT body FROM doc ORDER BY id").fetchall() == [("a1",), ("z1",)]
    docs.sql("CALL envelope.suspend('doc', 'acme', 'unpaid')")
    for statement in (ACME, "INSERT INTO doc VALUES (3, 'acme', 'a2')", "SELECT envelope.rotate('doc', 'acme')"):
        assert failure(warm, statement)[:2] == SUSPENDED
    warm.execute("INSERT INTO doc VALUES (4, 'zen', 'z2')")
    assert warm.execute(ZEN).fetchall() == [("z1",), ("z2",)]
    assert docs.sql(KEYS) == [("acme", 1, "suspended", "default"), ("zen", 1, "active", "default")]
    docs.sql("CALL envelope.unsuspend('doc', 'acme')")
    warm.execute("INSERT INTO doc VALUES (3, 'acme', 'a2')")
    assert warm.execute(ACME).fetchall() == [("a1",), ("a2",)]


@pytest.mark.parametrize("call", ["suspend('doc', 'none')", "suspend('doc')", "unsuspend('doc', '')"])
def test_a_tenant_without_keys_is_an_error(docs: Database, call: str) -> None:
    assert failure(docs.admin, f"CALL envelope.{call}")[0] == "42704"


def test_new_keys_of_a_tenant_are_made_where_it_wants(own: Tenant, docs: Database) -> None:
    docs.sql("SELECT envelope.tenant_kek('doc', 'new', 'own', 'catalog', new_tenant => true)")
    docs.sql("INSERT INTO doc VALUES (3, 'new', 'n1'), (4, 'other', 'o1')")
    docs.sql("SELECT envelope.tenant_kek('doc', 'acme', 'own', 'catalog')")
    docs.sql("SELECT envelope.rotate('doc', 'acme')")
    docs.sql("INSERT INTO doc VALUES (5, 'acme', 'a2')")
    assert docs.sql(KEYS) == [
        ("acme", 1, "decrypt-only", "default"),
        ("acme", 2, "active", "own"),
        ("new", 1, "active", "own"),
        ("other", 1, "active", "default"),
        ("zen", 1, "active", "default"),
    ]
    docs.sql(BRING)
    assert docs.sql("SELECT DISTINCT scope, kek FROM envelope_private.dek WHERE kek = 'own' ORDER BY 1") == [
        ("acme", "own"),
        ("new", "own"),
    ]
    docs.sql("SELECT envelope.flush('cold')")
    assert docs.sql("SELECT body FROM doc ORDER BY id") == [("a1",), ("z1",), ("n1",), ("o1",), ("a2",)]


def test_a_tenant_cuts_itself_off_at_once_with_a_flush_and_nobody_else(own: Tenant, docs: Database) -> None:
    docs.sql(BRING)
    warm = docs.connect()
    assert warm.execute(ACME).fetchall() == [("a1",)]
    own.allow(decrypt=False)
    assert warm.execute(ACME).fetchall() == [("a1",)], "what caches hold is good until their time is over"
    docs.sql("SELECT envelope.flush('the tenant left')")
    for _ in range(10):
        assert failure(warm, ACME)[:2] == DENIED
    assert warm.execute(ZEN).fetchall() == [("z1",)]
    own.allow()
    assert warm.execute(ACME).fetchall() == [("a1",)], "a refusal opens no breaker"


@pytest.mark.parametrize("way", ["policy", "login"])
def test_a_tenant_cuts_itself_off_within_both_times_to_live(own: Tenant, docs: Database, way: str) -> None:
    own.stack.broker.configure(QUICK)
    own.stack.broker.restart()
    docs.sql(BRING)
    warm = docs.connect()
    assert warm.execute(ACME).fetchall() == [("a1",)]
    if way == "policy":
        own.allow(decrypt=False)
    else:
        own.api("DELETE", "auth/approle/role/lender")
        own.api("PUT", "sys/leases/revoke-prefix/auth/approle", {})
    wait_until(lambda: not reads(warm, ACME), 60, "the end of both times to live")
    assert failure(docs.connect(), ACME)[0] == "58000"
    assert warm.execute(ZEN).fetchall() == [("z1",)]
    assert docs.connect().execute(ZEN).fetchall() == [("z1",)]


def test_a_denied_kek_closes_no_other_of_its_kms(keks: Stack, docs: Database) -> None:
    """Two KEKs in one section: refusals of the one are no sign that the KMS is down."""
    docs.sql("CALL envelope.move_kek('default', 'second', 'catalog', rel => 'doc', tenant => 'acme')")
    policy = "sys/policies/acl/pg-envelope-broker"
    text = keks.openbao.request("GET", policy)["data"]["policy"]
    denied = text + '\npath "transit/decrypt/second" { capabilities = ["deny"] }\n'
    keks.openbao.request("PUT", policy, {"policy": denied})
    docs.sql("SELECT envelope.flush('cold')")
    for _ in range(5):
        assert failure(docs.admin, ACME)[:2] == DENIED
        docs.sql("SELECT envelope.flush('cold')")
        assert docs.sql(ZEN) == [("z1",)]
    assert 'pg_envelope_kms_up{kms="main"} 1' in keks.broker.page("metrics")


def test_what_tenant_kek_refuses(keks: Stack, docs: Database) -> None:
    docs.sql("CREATE TABLE plain (id int PRIMARY KEY, body text)")
    docs.sql("""CALL envelope.protect('plain', '["body"]')""")
    for statement, sqlstate in (
        ("SELECT envelope.tenant_kek('plain', 'acme', 'laptop')", "22023"),
        ("SELECT envelope.tenant_kek('doc', NULL, 'laptop')", "22023"),
        ("SELECT envelope.tenant_kek('doc', 'acme', 'none')", "42704"),
        ("SELECT envelope.tenant_kek('doc', 'Acme', 'laptop')", "42704"),
        ("SELECT envelope.tenant_kek('doc', 'acme', 'laptop', 'elsewhere')", "22023"),
        ("SELECT envelope.tenant_kek('doc', 'acme', 'laptop', 'vault')", "22023"),
    ):
        assert failure(docs.admin, statement)[0] == sqlstate
    assert docs.sql("SELECT * FROM envelope_private.tenant") == []


def test_a_kek_that_cannot_wrap_or_open_is_refused(own: Tenant, docs: Database) -> None:
    """Not by the tenant's first write, which would then be lost."""
    own.allow(decrypt=False)
    for store in ("catalog", "vault"):
        assert failure(docs.admin, f"SELECT envelope.tenant_kek('doc', 'acme', 'own', '{store}')")[0] == "58000"
    assert docs.sql("SELECT * FROM envelope_private.tenant") == []
    own.allow()
    docs.sql("SELECT envelope.tenant_kek('doc', 'acme', 'own', 'catalog')")


def test_a_kek_that_may_be_deleted_is_refused(keks: Stack, docs: Database) -> None:
    keks.openbao.request("POST", "transit/keys/second/config", {"deletion_allowed": True})
    keks.broker.restart()
    docs.sql("CREATE TABLE plain (id int PRIMARY KEY, body text)")
    for statement in (
        """CALL envelope.protect('plain', '["body"]', 'second')""",
        "SELECT envelope.create_key('app', 'second')",
        "SELECT envelope.tenant_kek('doc', 'acme', 'second')",
        "CALL envelope.move_kek('default', 'second')",
    ):
        sqlstate, text, hint = failure(docs.admin, statement)
        assert (sqlstate, text) == (
            "55000",
            "pg_envelope: the KEK may be deleted in its KMS, and all its data would be lost",
        )
        assert hint.endswith("deletion_allowed=false")
    keks.openbao.request("POST", "transit/keys/second/config", {"deletion_allowed": False})
