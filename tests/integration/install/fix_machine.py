"""A machine of its own for `make install`: the sources, and a server whose folders are below one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from stack.postgres import pg_config

ROOT = Path(__file__).parents[3]
SOURCES = ("plpython", "client", "extension", "deploy", "pyproject.toml", "README.md", "LICENSE")


class Machine:
    """A copy of the sources, and a server whose folders are below `home`."""

    def __init__(self, home: Path) -> None:
        self.home, self.checkout, self.bin = home, home / "checkout", home / "bin"
        self.library, self.share, self.units = home / "lib", home / "share", home / "units"
        for folder in (self.checkout, self.bin, self.library, self.share / "extension", self.units, home / "wheels"):
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
    def builds(self) -> Path:
        return self.library / "pg_envelope.d"

    @property
    def build(self) -> str:
        return os.readlink(self.venv)

    @property
    def script(self) -> Path:
        """What CREATE EXTENSION reads."""
        return next((self.share / "extension").glob("*.sql"))

    @property
    def installer(self) -> Path:
        return self.checkout / "deploy/server.sh"

    def environment(self, **more: str) -> dict[str, str]:
        folders = {"BINDIR": str(self.bin), "UNITDIR": str(self.units), "PIP_FIND_LINKS": str(self.home / "wheels")}
        return os.environ | folders | {"PG_CONFIG": str(self.pg_config)} | more

    def run(self, action: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.installer, action],
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
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

    def leftovers(self) -> list[Path]:
        """What an installation that ended early would leave: files beside the real ones, builds that nobody uses."""
        tops = (self.library, self.share, self.bin, self.units)
        beside = [path for top in tops for path in top.rglob("*.new")]
        kept = {self.build, *(os.readlink(link) for link in [self.builds / "before"] if link.is_symlink())}
        kept = {Path(name).name for name in kept} | {"before"}
        return beside + [path for path in self.builds.iterdir() if path.name not in kept]
