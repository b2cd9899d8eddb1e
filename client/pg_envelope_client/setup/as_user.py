"""Runs the command again as the broker's user.

Root may read everything, and would not see what the broker cannot read.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pg_envelope_client.problems import Problem

PROGRAM = "from pg_envelope_client.cli import app; app()"


def owner(config: Path) -> pwd.struct_passwd | None:
    """Returns the owner of the configuration, or else of the secrets that it names; None if root owns all of it."""
    for path in _private(config):
        try:
            found = pwd.getpwuid(path.stat().st_uid)
        except (OSError, KeyError):
            continue
        if found.pw_uid:
            return found
    return None


def _private(config: Path) -> Iterator[Path]:
    yield config
    try:
        yield from _files(tomllib.loads(config.read_text()).get("kms", {}))
    except (OSError, ValueError):
        # The check itself tells what is wrong with the file.
        return


def _files(found: Any) -> Iterator[Path]:
    """Yields every value of a setting that ends in _file, however deep."""
    for name, value in found.items() if isinstance(found, dict) else ():
        if name.endswith("_file") and isinstance(value, str):
            yield Path(value)
        else:
            yield from _files(value)


def as_user(user: pwd.struct_passwd, words: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows that the command gives there. Raises Problem."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, *words, "--json"],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        rows: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        raise _told(done.stderr) from None
    return rows


def _told(said: str) -> Problem:
    """Returns the error that the other process ended with."""
    try:
        error = json.loads(said.splitlines()[-1])["error"]
        return Problem(error["message"], error["detail"], error["hint"], error["exit_code"])
    except (LookupError, TypeError, ValueError):
        return Problem("the check could not be run as the broker's user", detail=said.strip() or None)
