"""A chroot of Debian trixie with Rails 7.2, beside the servers of the tests. It needs root and debootstrap."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = "ca-certificates,ruby,ruby-pg,ruby-activerecord,ruby-actionpack,ruby-railties"
MIRROR = (
    "cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | "
    r"sed -nE 's|^deb (\[.*\] )?(https?://[^ ]+/debian/?) .*|\2|p; s|^URIs: *([^ ]+/debian/?) *$|\1|p' | head -1"
)


def lacks() -> str | None:
    """Returns what keeps this machine from making the chroot."""
    if "FRESH" not in os.environ:
        return "make fresh runs it"
    if os.geteuid() != 0:
        return "it needs root"
    if shutil.which("debootstrap") is None:
        return "it needs debootstrap (apt-get install debootstrap)"
    return None


@pytest.fixture(scope="session")
def trixie() -> Path:
    """The root folder. It stays in the folder of FRESH for the next run, because it takes a minute to make."""
    root = Path(os.environ["FRESH"]).absolute() / "root-rails"
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        mirror = subprocess.run(MIRROR, shell=True, check=True, capture_output=True, text=True).stdout.strip()
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(root), mirror, "sid"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        (root / "complete").touch()
    return root
