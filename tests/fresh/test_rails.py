"""An application of Rails 7.2 with `encrypts`, led through an adoption beside processes of both releases."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fix_stack import Database
from tests.fresh import fix_trixie
from tests.fresh.fix_trixie import trixie
from tests.integration.adoption.fix_legacy import import_key

__all__ = ["trixie"]
pytestmark = pytest.mark.skipif(fix_trixie.lacks() is not None, reason=fix_trixie.lacks() or "")

CLINIC = Path(__file__).parent / "rails_clinic/clinic.rb"
KEYS = {
    "primary_key": "primary key of the clinic, 32 letters",
    "deterministic_key": "deterministic key of the clinic..",
    "key_derivation_salt": "salt of the clinic, of some letters",
}
PASSWORD = "of a role of the tests"
INSPECT = (
    "SELECT opens FROM envelope.inspect('patients', %s, key => 'rails') WHERE format = 'rails' AND opens IS NOT NULL"
)
ADOPT = """CALL envelope.adopt('patients', '["ssn", "email"]', 'rails', key => 'rails')"""
STORED = """
SELECT ssn IS NOT NULL, to_jsonb(e) ->> 'ssn_legacy' IS NOT NULL FROM patients_encrypted e WHERE name = %s"""
SEALED, LEGACY = (True, False), (False, True)


class Clinic:
    """The application in the chroot."""

    def __init__(self, db: Database, root: Path) -> None:
        self._db, self._root = db, root
        self.processes: list[Process] = []
        self.source = root / "root/clinic.rb"
        shutil.copy(CLINIC, self.source)

    def command(self, release: str, *words: str) -> list[str]:
        place = (
            f"postgres://owner:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self._db.stack.cluster.port}/{self._db.name}"
        )
        told = {
            "CLINIC_RELEASE": release,
            "CLINIC_DATABASE": place,
            "CLINIC_PRIMARY": KEYS["primary_key"],
            "CLINIC_DETERMINISTIC": KEYS["deterministic_key"],
            "CLINIC_SALT": KEYS["key_derivation_salt"],
        }
        settings = ["HOME=/root", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "TZ=UTC"]
        settings += [f"{name}={value}" for name, value in told.items()]
        return ["chroot", str(self._root), "/usr/bin/env", "-i", *settings, "ruby", "/root/clinic.rb", *words]

    def did(self, release: str, *words: str) -> str:
        done = subprocess.run(self.command(release, *words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def answers(self, release: str) -> Any:
        return json.loads(self.did(release, "read"))

    def process(self, release: str) -> Process:
        self.processes.append(Process(self, release))
        return self.processes[-1]


class Process:
    """A process of the application that lives through the change, as the workers of a web server do."""

    def __init__(self, clinic: Clinic, release: str) -> None:
        self._process = subprocess.Popen(
            clinic.command(release, "serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def tell(self, *words: str) -> str:
        assert self._process.stdin
        print(json.dumps(words), file=self._process.stdin, flush=True)
        return self._line()

    def answers(self) -> Any:
        return json.loads(self.tell("read"))

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.communicate()


@pytest.fixture
def clinic(db: Database, trixie: Path) -> Iterator[Clinic]:
    db.sql("GRANT CREATE ON SCHEMA public TO owner")
    db.sql(f"ALTER ROLE owner PASSWORD '{PASSWORD}'")
    made = Clinic(db, trixie)
    made.did("old", "first_day")
    import_key(db, "rails", "rails", json.dumps(KEYS).encode())
    yield made
    for process in made.processes:
        process.end()


def test_an_application_is_led_through(db: Database, clinic: Clinic) -> None:
    old = clinic.process("old")
    before = old.answers()
    assert before[0]["/patients/ada"]["ssn"] == "078-05-1120"
    assert before[0]["/patients/by_email?email=alan%40example.org"]["ssn"] == "Zoë 🐎"
    assert db.one("SELECT ssn FROM patients WHERE name = 'ada'").startswith('{"p":')
    assert [db.one(INSPECT, column) for column in ("ssn", "email")] == [1, 1]

    db.sql(ADOPT)
    # The old release goes on reading and writing, because it passes values in the clear through.
    assert old.answers() == before
    assert old.tell("others", "ada@example.org") == "45", "docs/adopt.md tells why this is not 44"
    assert old.tell("write", "late", "of the old release", "late@example.org") == "204"
    assert old.tell("write", "p1", "changed by the old release", "p1@example.org") == "204"
    assert old.tell("rename", "p3", "q3") == "no 3"

    new = clinic.process("new")
    assert new.tell("others", "ada@example.org") == "45"
    assert new.tell("write", "p2", "changed by the new release", "p2@example.org") == "204"
    assert new.tell("rename", "p4", "q4") == "no 4"
    stored = [db.sql(STORED, name)[0] for name in ("late", "p1", "p2", "q4", "p5")]
    assert stored == [SEALED, SEALED, SEALED, LEGACY, LEGACY]
    amid = new.answers()
    assert old.answers() == amid
    shown = {row["name"]: row["ssn"] for row in amid[0]["/patients"]}
    assert [shown[name] for name in ("late", "p1", "p2")] == [
        "of the old release",
        "changed by the old release",
        "changed by the new release",
    ]
    # What was unique stays unique, whoever writes it.
    assert [process.tell("write", "copy", "x", "ada@example.org") for process in (old, new)] == ["409", "409"]
    old.end()

    for statement in (
        "CALL envelope.convert('patients')",
        "CALL envelope.finish_adoption('patients', destroy_key => false)",
    ):
        db.sql(statement)
        assert new.answers() == clinic.answers("new") == amid
    assert new.tell("write", "p6", "after it all", "p6@example.org") == "204"
    assert new.tell("write", "copy", "x", "ada@example.org") == "409"
    new.end()
    assert clinic.answers("new")[1][1] == [shown["ada"], shown["p7"]]
    left = "SELECT count(*) FROM patients_encrypted WHERE (ssn IS NULL AND name <> 'kurt') OR email IS NULL"
    assert db.one(left) == 0
    assert '{"p"' not in str(db.sql("SELECT * FROM patients"))


def test_a_release_that_reads_no_values_in_the_clear_loses_nothing(db: Database, clinic: Clinic) -> None:
    source = clinic.source
    source.write_text(source.read_text().replace("support_unencrypted_data = true", "support_unencrypted_data = false"))
    db.sql(ADOPT)
    before = db.sql("SELECT * FROM patients ORDER BY id")
    for words in (["read"], ["rename", "ada", "eda"], ["write", "p3", "other", "p3@example.org"]):
        done = subprocess.run(clinic.command("old", *words), capture_output=True, text=True, check=False)
        assert "ActiveRecord::Encryption::Errors::Decryption" in done.stderr or done.stdout.strip() in ("409", "500")
    after = db.sql("SELECT * FROM patients ORDER BY id")
    assert [row[2:] for row in after] == [row[2:] for row in before]
