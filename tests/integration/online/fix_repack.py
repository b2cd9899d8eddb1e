"""pg_repack from Debian's package, where it can be had: installed, or fetched for the time of the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.postgres import pg_config


def _fetched(folder: Path) -> Path:
    """Returns the folder with the content of the package."""
    major = re.findall(r"\d+", pg_config("--version").name)[0]
    package = f"postgresql-{major}-repack"
    done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.deb"))
    if done.returncode or not found:
        pytest.skip(f"there is no pg_repack, and apt-get cannot fetch {package}")
    subprocess.run(["dpkg", "-x", found[0], folder / "package"], check=True, timeout=60)
    return folder / "package"


def _places(content: Path) -> Iterator[tuple[Path, Path]]:
    shared = pg_config("--sharedir") / "extension"
    yield from ((file, shared / file.name) for file in content.glob("usr/share/postgresql/*/extension/*"))
    library = next(content.glob("usr/lib/postgresql/*/lib/pg_repack.so"))
    yield library, pg_config("--pkglibdir") / library.name
    program = next(content.glob("usr/lib/postgresql/*/bin/pg_repack"))
    yield program, pg_config("--bindir") / program.name


@pytest.fixture(scope="module")
def repack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program. Its extension can be created."""
    program = pg_config("--bindir") / "pg_repack"
    if program.exists():
        yield program
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        pytest.skip("there is no pg_repack: Debian's postgresql-15-repack, and only root can fetch it")
    placed = []
    for source, target in _places(_fetched(tmp_path_factory.mktemp("repack"))):
        shutil.copy(source, target)
        placed.append(target)
    yield program
    for target in placed:
        target.unlink()
