"""`make install` as on a server, into folders of its own: a failure changes nothing, an upgrade loses nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.processes import wait_until

from .fix_machine import ROOT, Machine

# What brings bcrypt, which nothing else does.
EXTRA = "passwords"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with pytest.MonkeyPatch.context() as patch:
        # To compile what comes from the index takes half of an installation's time, and no test looks at it.
        patch.setenv("PIP_COMPILE", "0")
        machine = Machine(tmp_path_factory.mktemp("machine"))
        machine.install(EXTRAS=EXTRA)
        yield machine


@pytest.fixture
def machine(installed: Machine) -> Iterator[Machine]:
    """The installed machine; its sources are put back afterwards.

    What it needs stays as a test changed it: to put that back would be another installation from nothing.
    """
    yield installed
    target = installed.checkout / "plpython"
    shutil.rmtree(target)
    shutil.copytree(ROOT / "plpython", target)


def test_what_is_installed_works(machine: Machine) -> None:
    assert machine.works()
    assert (machine.share / "extension/pg_envelope.control").exists()
    unit = (machine.units / "pg-envelope-broker.service").read_text()
    assert f"ExecStart={machine.bin}/pg-envelope broker" in unit


def test_installing_again_changes_nothing(machine: Machine) -> None:
    before = machine.build
    machine.install(PIP_NO_INDEX="1")
    assert machine.build == before


def test_without_a_network_the_old_installation_stays(machine: Machine) -> None:
    before, script = machine.build, machine.script.read_bytes()
    done = machine.run("install", EXTRAS="kmip", PIP_NO_INDEX="1")
    assert done.returncode != 0
    assert "Nothing was changed" in done.stderr
    assert machine.build == before
    assert machine.works()
    assert machine.script.read_bytes() == script
    assert not machine.leftovers()


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
    machine.add(machine.wheel("provider_sdk"))
    machine.change("pyproject.toml", "\n# another version of what is needed\n")
    machine.install(EXTRAS="shares")
    assert machine.python("import provider_sdk, bcrypt, shamir_mnemonic; print(provider_sdk.answer)") == "42"
    assert (machine.venv / ".extras").read_text() == f"{EXTRA}\nshares\n"
    assert machine.works()


def test_a_folder_of_an_earlier_version_becomes_a_link(machine: Machine) -> None:
    real = machine.venv.resolve()
    machine.venv.unlink()
    real.rename(machine.venv)
    machine.install()
    assert machine.venv.is_symlink()
    assert machine.works()


def test_an_installation_waits_for_another_server_s(machine: Machine) -> None:
    """Two servers on one machine share the command and the units."""
    machine.change("plpython/pg_envelope/padding.py", "\nMARK = 'waited'\n")
    folder = os.open(machine.bin, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with subprocess.Popen([machine.installer, "install"], env=machine.environment(PIP_NO_INDEX="1")) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: "flock" in map(name_of, children.read_text().split()), 60, "the installer's flock")
        assert not machine.leftovers()
        os.close(folder)
    assert process.returncode == 0
    assert machine.python("import pg_envelope.padding as p; print(p.MARK)") == "waited"


def name_of(pid: str) -> str:
    """Of a process that may be gone by now."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_uninstall_warns_first(machine: Machine) -> None:
    done = machine.run("uninstall")
    assert done.returncode == 1
    assert "unprotect" in done.stderr
    assert machine.works()


def test_uninstall_with_yes_removes_all_that_install_made(machine: Machine) -> None:
    machine.install()
    assert machine.run("uninstall", YES="1").returncode == 0
    tops = (machine.library, machine.share, machine.bin, machine.units)
    assert not [path for top in tops for path in top.rglob("*") if not path.is_dir()]
