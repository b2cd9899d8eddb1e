"""The report's fact kek_age: true and false by a real OpenBao, and not known where nobody tells the age."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from pg_envelope.backend import kek_age
from pg_envelope_client.evidence import facts
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_report import Holds, seen
from tests.integration.operations.fix_kms_life import POLICY, breakable

__all__ = ["breakable"]
RULES = "\n".join(
    f'path "transit/+/{key}*" {{ capabilities = ["read", "update"] }}' for key in ("aged-old", "aged-older")
)
RULES += "\n" + RULES.replace("transit/+/", "transit/datakey/wrapped/")


def old_key(stack: Stack, name: str, days: int) -> None:
    """A transit key whose only version is so old: a backup of a new one, with another time, restored."""
    bao = stack.openbao
    made = {"type": "aes256-gcm96", "derived": True, "exportable": True, "allow_plaintext_backup": True}
    bao.request("POST", f"transit/keys/{name}-new", made)
    kept = json.loads(base64.b64decode(bao.request("GET", f"transit/backup/{name}-new")["data"]["backup"]))
    made_at = datetime.now(UTC) - timedelta(days=days)
    for version in kept["policy"]["keys"].values():
        version |= {"time": made_at.isoformat(), "creation_time": int(made_at.timestamp())}
    backup = base64.b64encode(json.dumps(kept).encode()).decode()
    bao.request("POST", f"transit/restore/{name}", {"backup": backup})


def test_the_age_of_a_kek_shows(breakable: Stack, db: Database) -> None:
    name, bao = "kek_age", breakable.openbao
    db.sql("SELECT envelope.create_key('here')")
    assert seen(db, name) == ("default: 0 days", True)
    policy = bao.request("GET", POLICY)["data"]["policy"]
    bao.request("PUT", POLICY, {"policy": policy + RULES})
    old_key(breakable, "aged-old", 729)
    old_key(breakable, "aged-older", 731)
    breakable.broker.configure({"kek": {kek: {"kms": "main", "key": f"aged-{kek}"} for kek in ("old", "older")}})
    breakable.broker.restart()
    assert seen(db, name) == ("default: 0 days", True), "a KEK that this database does not use"
    db.sql("SELECT envelope.create_key('one', kek => 'old')")
    assert seen(db, name) == ("default: 0 days, old: 729 days", True)
    db.sql("SELECT envelope.create_key('two', kek => 'older')")
    assert seen(db, name) == ("default: 0 days, old: 729 days, older: 731 days", False)
    assert "days" not in seen(db, "keks")[0], "the age is a fact of its own"
    db.sql("CALL envelope.rotate_kek('older')")
    assert seen(db, name) == ("default: 0 days, old: 729 days, older: 0 days", True)
    bao.seal()
    breakable.broker.restart()
    assert seen(db, name) == ("default: not known, old: not known, older: not known", None)


@pytest.mark.parametrize("made_at", [None, 0, -1, 4102444800, 1e300])
def test_an_age_that_cannot_be_is_not_known(made_at: float | None) -> None:
    found = kek_age.check({"a", "gone"}, {"a": {"made_at": made_at}})
    assert (found["state"], found["detail"]) == ("ok", "a: not known, gone: not known")


@pytest.mark.parametrize(
    ("told", "state", "holds"),
    [
        ("a: 3 days", "ok", True),
        ("a: 800 days", "warning", False),
        ("a: 800 days, b: not known", "warning", False),
        ("a: 3 days, b: not known", "ok", None),
        ("none", "ok", None),
    ],
)
def test_an_age_that_a_provider_does_not_tell_never_holds(db: Database, told: str, state: str, holds: Holds) -> None:
    source = f"(SELECT '{told}' AS detail, 'age of keks' AS check_name, '{state}' AS state) AS found"
    asked = facts.statement_of(facts.declared()["kek_age"]).replace("envelope.status()", source)
    assert db.sql(asked) == [(told, holds)]
