"""`make install` killed at many points, and on full disks: what was installed works on, and the next one cleans up.

A point is a command of the installer's script, or a share of the time that it takes. The whole process group is killed.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.install.fix_machine import Machine

# One file system each, so that each can be full while the others have room.
PLACES = ("lib", "share/extension", "bin", "units", "tmp")
ROOMY = 1 << 30
# More than one installation takes of each: of bytes, and of files.
MOST_BYTES, MOST_FILES = 6 << 20, 6000
KILLS_BEFORE_ONE_ENDS = 2

STEPS = """
[[ $0 == */server.sh ]] || return 0
set -o functrace
trap '(( ++STEP != ${STEP_TO_KILL:-0} )) || kill -KILL 0; [ -z "${STEPS_TO:-}" ] || echo "$STEP" >"$STEPS_TO"' DEBUG
"""


class Disk:
    """A file system of a folder's own, in memory. It needs root."""

    def __init__(self, path: Path) -> None:
        self._path = path
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", path], check=True)

    def leave(self, room: int, files: int) -> None:
        """So many bytes, and names of files, can still be written."""
        found = os.statvfs(self._path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._set(max(used + room, found.f_frsize), found.f_files - found.f_ffree + files)

    def free(self) -> None:
        self._set(ROOMY, 10**6)

    def _set(self, size: int, files: int) -> None:
        options = f"remount,size={size},nr_inodes={files}"
        subprocess.run(["mount", "-o", options, self._path], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self._path], check=True)


class Trial:
    """A machine with an installation that works, on disks of its own where root may mount them."""

    def __init__(self, home: Path) -> None:
        self.machine = Machine(home)
        (home / "tmp").mkdir()
        mounts = PLACES if os.geteuid() == 0 else ()
        self.disks = {name: Disk(home / name) for name in mounts}
        self._own = {"TMPDIR": str(home / "tmp")}
        self._hook, self._count = home / "steps", home / "count"
        self._hook.write_text(STEPS)
        self.version = 0
        self.change()
        self.machine.install(**self._own)
        self.seconds, self.steps = self._measured()

    def _measured(self) -> tuple[float, int]:
        self.change()
        began = time.monotonic()
        self.install(BASH_ENV=str(self._hook), STEPS_TO=str(self._count))
        return time.monotonic() - began, int(self._count.read_text())

    def change(self) -> None:
        """New sources: Python and SQL."""
        self.version += 1
        self.machine.change("plpython/pg_envelope/padding.py", f"\nMARK = {self.version}\n")
        script = next((self.machine.checkout / "extension").glob("*.sql")).relative_to(self.machine.checkout)
        self.machine.change(str(script), f"-- {self.version}\n")

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.machine.run("install", **self._own, PIP_NO_INDEX="1", **environment)

    def install(self, **environment: str) -> None:
        done = self.run(**environment)
        assert done.returncode == 0, done.stderr
        assert (self.python, self.sql) == (self.version, self.version)
        self.check()

    @property
    def python(self) -> int:
        """Which version sessions run."""
        return int(self.machine.python("import pg_envelope.padding as p; print(p.MARK)"))

    @property
    def sql(self) -> int:
        """Which version CREATE EXTENSION makes."""
        return int(self.machine.script.read_text().splitlines()[-1].removeprefix("-- "))

    def check(self) -> None:
        assert self.machine.works()
        assert not self.machine.leftovers()

    def kill(self, chance: random.Random) -> str:
        """Kills an installation at a point. Says which."""
        share = chance.random()
        if chance.random() < 0.5:
            step = 1 + int(share * self.steps)
            with self._begun(BASH_ENV=str(self._hook), STEP_TO_KILL=str(step)) as process:
                process.communicate()
            return f"step {step} of {self.steps}"
        with self._begun() as process:
            time.sleep(share * self.seconds)
            os.killpg(process.pid, signal.SIGKILL)
        return f"{share:.3f} of {self.seconds:.1f} s"

    def _begun(self, **environment: str) -> subprocess.Popen[bytes]:
        """In a process group of its own, whose number is the process's."""
        return subprocess.Popen(
            [self.machine.installer, "install"],
            env=self.machine.environment(**self._own, PIP_NO_INDEX="1", **environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    made = Trial(tmp_path_factory.mktemp("machine"))
    yield made
    for disk in made.disks.values():
        disk.unmount()


def digest(build: Path) -> str:
    """Of all files but what Python compiles when somebody imports."""
    found = hashlib.sha256()
    for path in sorted(path for path in build.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


def test_killed_at_any_point(trial: Trial, points: int | None, seed: int) -> None:
    chance = random.Random(f"{seed} install")
    for number in range(1, 1 + (points or KILLS_BEFORE_ONE_ENDS)):
        python, sql = trial.python, trial.sql
        trial.change()
        point = f"PROOF_SEED={seed}, point {number}, {trial.kill(chance)}"
        assert trial.machine.works(), point
        assert trial.python in (python, trial.version), point
        assert trial.sql in (sql, trial.version), point
        if number % KILLS_BEFORE_ONE_ENDS == 0:
            build = trial.machine.venv.resolve()
            before = digest(build)
            trial.install()
            assert digest(build) == before, f"{point}: sessions still run on it"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount small file systems")
def test_on_a_full_disk(trial: Trial, points: int | None, seed: int) -> None:
    chance = random.Random(f"{seed} disk")
    trial.change()
    for number in range(max(len(PLACES), points or 0)):
        place = PLACES[number % len(PLACES)]
        share, names = (chance.random(), chance.random()) if number >= len(PLACES) else (0.0, 0.0)
        room, files = int(share * MOST_BYTES), int(names * MOST_FILES)
        python, sql = trial.python, trial.sql
        trial.disks[place].leave(room, files)
        done = trial.run()
        trial.disks[place].free()
        trial.check()
        if done.returncode == 0:
            assert (trial.python, trial.sql) == (trial.version, trial.version)
            trial.change()
        else:
            point = f"PROOF_SEED={seed}, {room} bytes and {files} files left on {place}: {done.stderr}"
            assert (trial.python, trial.sql) == (python, sql), point
            assert "Nothing was changed" in done.stderr, point
    trial.install()
