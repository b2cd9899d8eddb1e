"""README's "Install on a server" on a fresh Debian 12. It takes minutes, root and a mirror: `make fresh` runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif("FRESH" not in os.environ, reason="make fresh runs it")
def test_readme_on_a_bare_debian() -> None:
    command = [ROOT / "stack/try-fresh.sh", "--worktree", "--script", "tests/fresh/session.sh", os.environ["FRESH"]]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0
    assert "All of it works" in done.stdout
