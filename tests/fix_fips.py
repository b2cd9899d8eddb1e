"""OpenSSL's FIPS provider, and processes that load it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def provider(directory: Path) -> Path:
    """Makes the file that describes the provider. Skips the test on a machine that cannot get the provider."""
    done = subprocess.run([ROOT / "stack/fips.sh", directory], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no FIPS provider: {done.stderr[-300:]}")
    return directory / "fips.cnf"


@pytest.fixture(scope="session")
def fips_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provider(tmp_path_factory.mktemp("fips"))


def fresh(code: str, *arguments: str | Path) -> str:
    """What a process prints that has not imported `cryptography` yet."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
