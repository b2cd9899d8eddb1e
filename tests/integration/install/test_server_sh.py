"""`make install` as on a server, into folders of its own: a failure changes nothing, an upgrade loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.postgres import pg_config

ROOT = Path(__file__).parents[3]
SOURCES = ("plpython", "client", "extension", "deploy", "pyproject.toml", "README.md", "LICENSE")


class Machine:
    """A copy of the sources, and a server whose folders are below `home`."""

    def __init__(self, home: Path) -> None:
        self.home, self.checkout, self.bin = home, home / "checkout", home / "bin"
        self.library, self.share = home / "lib", home / "share"
        for folder in (self.checkout, self.bin, self.library, self.share / "extension", home / "wheels"):
            folder.mkdir(parents=True)
        for name in SOURCES:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.checkout / name)
        (self.checkout / ".venv").symlink_to(ROOT / ".venv")
        self.pg_config = self._pg_config()

    def _pg_config(self) -> Path:
        path = self.home / "pg_config"
        real = pg_config("--bindir") / "pg_config"
        path.write_text(
            f'#!/bin/sh\ncase $1 in --pkglibdir) echo "{self.library}" ;; --sharedir) echo "{self.share}" ;;'
            f' *) exec "{real}" "$@" ;; esac\n'
        )
        path.chmod(0o755)
        return path

    @property
    def venv(self) -> Path:
        return self.library / "pg_envelope"

    @property
    def build(self) -> str:
        return os.readlink(self.venv)

    def run(self, action: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"PG_CONFIG": str(self.pg_config), "BINDIR": str(self.bin), "PIP_FIND_LINKS": str(self.home / "wheels")}
        command = [self.checkout / "deploy/server.sh", action]
        return subprocess.run(
            command, env=os.environ | own | environment, capture_output=True, text=True, check=False, timeout=300
        )

    def install(self, **environment: str) -> None:
        done = self.run("install", **environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def python(self, code: str) -> str:
        """What the installed venv's Python prints."""
        command = [self.venv / "bin/python", "-I", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def works(self) -> bool:
        done = subprocess.run([self.bin / "pg-envelope", "--help"], capture_output=True, check=False)
        return done.returncode == 0 and self.python("import pg_envelope.backend.session") == ""

    def wheel(self, name: str) -> Path:
        """A small distribution, as a provider's package stands beside ours in the venv."""
        path = self.home / "wheels" / f"{name}-1.0-py3-none-any.whl"
        info = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{name}.py", "answer = 42\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return path

    def add(self, wheel: Path) -> None:
        pip = [ROOT / ".venv/bin/python", "-m", "pip", "-qq", "--python", self.venv / "bin/python"]
        subprocess.run([*pip, "install", "--no-index", wheel], check=True)

    def change(self, name: str, text: str) -> None:
        with open(self.checkout / name, "a") as file:
            file.write(text)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.install()
    return machine


@pytest.fixture
def machine(installed: Machine) -> Iterator[Machine]:
    """The installed machine; its sources are put back afterwards."""
    yield installed
    for name in ("plpython", "pyproject.toml"):
        target = installed.checkout / name
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy(ROOT / name, target)


def test_what_is_installed_works(machine: Machine) -> None:
    assert machine.works()
    assert (machine.share / "extension/pg_envelope.control").exists()
    unit = (machine.home / "lib/systemd/system/pg-envelope-broker.service").read_text()
    assert f"ExecStart={machine.bin}/pg-envelope broker" in unit


def test_installing_again_changes_nothing(machine: Machine) -> None:
    before = machine.build
    machine.install(PIP_NO_INDEX="1")
    assert machine.build == before


def test_without_a_network_the_old_installation_stays(machine: Machine) -> None:
    before, script = machine.build, next((machine.share / "extension").glob("*.sql")).read_bytes()
    done = machine.run("install", EXTRAS="kmip", PIP_NO_INDEX="1")
    assert done.returncode != 0
    assert "Nothing was changed" in done.stderr
    assert machine.build == before
    assert machine.works()
    assert next((machine.share / "extension").glob("*.sql")).read_bytes() == script
    assert len(list((machine.library / "pg_envelope.d").iterdir())) <= 2


def test_a_build_that_does_not_load_is_not_taken(machine: Machine) -> None:
    before = machine.build
    machine.change("plpython/pg_envelope/backend/session.py", "\nraise RuntimeError('broken')\n")
    assert machine.run("install").returncode != 0
    assert machine.build == before
    assert machine.works()


def test_new_sources_need_no_network_and_the_build_before_stays(machine: Machine) -> None:
    before = (machine.library / machine.build).resolve()
    machine.change("plpython/pg_envelope/padding.py", "\nMARK = 'new'\n")
    machine.install(PIP_NO_INDEX="1")
    assert machine.python("import pg_envelope.padding as p; print(p.MARK)") == "new"
    assert before.exists(), "sessions still run on it"
    assert machine.works()


def test_an_upgrade_keeps_extras_and_packages_that_were_added(machine: Machine) -> None:
    machine.install(EXTRAS="shares")
    machine.add(machine.wheel("provider_sdk"))
    machine.change("pyproject.toml", "\n# another version of what is needed\n")
    machine.install()
    assert machine.python("import provider_sdk, shamir_mnemonic; print(provider_sdk.answer)") == "42"
    assert (machine.venv / ".extras").read_text() == "shares\n"
    assert machine.works()


def test_a_folder_of_an_earlier_version_becomes_a_link(machine: Machine) -> None:
    real = machine.venv.resolve()
    machine.venv.unlink()
    real.rename(machine.venv)
    machine.install()
    assert machine.venv.is_symlink()
    assert machine.works()


def test_uninstall_warns_first(machine: Machine) -> None:
    done = machine.run("uninstall")
    assert done.returncode == 1
    assert "unprotect" in done.stderr
    assert machine.works()


def test_uninstall_with_yes_removes_all_that_install_made(machine: Machine) -> None:
    machine.install()
    assert machine.run("uninstall", YES="1").returncode == 0
    tops = (machine.library, machine.share, machine.bin, machine.home / "lib")
    assert not [path for top in tops for path in top.rglob("*") if not path.is_dir()]
