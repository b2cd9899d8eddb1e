"""Carries out `init --service`: it makes the broker's user and folders, with the owners that the systemd unit expects.

deploy/systemd/pg-envelope-broker.service holds the same names; a test compares them.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.setup import private_files
from pg_envelope_client.setup.broker_config import DEFAULT_SOCKET
from pg_envelope_client.setup.steps import State, Steps

USER = "pg-envelope"
UNIT = "pg-envelope-broker"
FOLDERS = {"/run/pg_envelope": 0o711, "/var/log/pg_envelope": 0o700, "/var/lib/pg_envelope": 0o700}
STATE = Path("/var/lib/pg_envelope")
# The server's sessions look for the broker here, whatever --out says.
BACKEND = Path("/etc/pg_envelope/backend.conf")
PASSABLE = 0o711


def prepare(allowed_users: list[str], steps: Steps) -> pwd.struct_passwd:
    """Makes the user and the folders. Raises Problem unless root runs it, on a machine that has the server's user."""
    if os.geteuid() != 0:
        raise usage("--service makes a user and folders of the system: run it as root")
    user = _user(_group(allowed_users), steps)
    for name, mode in FOLDERS.items():
        path = Path(name)
        state: State = "already there" if path.is_dir() else "created"
        path.mkdir(exist_ok=True)
        _own(path, user.pw_uid, user.pw_gid, mode)
        steps.add(name, state)
    return user


def finish(out: Path, socket: str, secrets: list[Path], user: pwd.struct_passwd, steps: Steps) -> None:
    """Gives configuration and secrets to the broker's user, and names that user to the server's sessions.

    The folder stays root's, because a user who could write to it could put another backend.conf in place.
    """
    _own(out, 0, 0, PASSABLE)
    for path in secrets:
        if path.parent in (out, STATE) and path.exists():
            _own(path, user.pw_uid, user.pw_gid, private_files.SECRET)
    _own(out / "broker.toml", user.pw_uid, user.pw_gid, private_files.CONFIG)
    steps.add(str(BACKEND), backend_conf(BACKEND, socket, user.pw_uid))


def backend_conf(path: Path, socket: str, uid: int) -> State:
    """Writes `broker_uid`, and `socket` where it is not the default. Other lines stay."""
    values = {"broker_uid": str(uid)} | ({"socket": socket} if socket != DEFAULT_SOCKET else {})
    old = path.read_text(encoding="utf-8") if path.exists() else None
    kept = [line for line in (old or "").splitlines() if line.partition("=")[0].strip() not in values]
    text = "\n".join([*kept, *(f"{name} = {value}" for name, value in values.items()), ""])
    if text == old and path.stat().st_uid == 0:
        return "already there"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    private_files.write(path, text.encode(), private_files.PUBLIC)
    return "created" if old is None else "updated"


def _group(allowed_users: list[str]) -> int:
    """Returns the group of the server's user, by which its processes reach the socket."""
    for name in allowed_users:
        try:
            return pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
    raise Problem(
        f"this machine has no user {' or '.join(allowed_users)}",
        hint="Install the PostgreSQL server first, or name its user: --allow-user NAME.",
    )


def _user(group: int, steps: Steps) -> pwd.struct_passwd:
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        _make_user(group)
        steps.add(f"user {USER}", "created")
        return pwd.getpwnam(USER)
    steps.add(f"user {USER}", "already there")
    return found


def _make_user(group: int) -> None:
    options = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    command = ["useradd", *options, "--gid", str(group), USER]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    except FileNotFoundError:
        raise Problem("this machine has no useradd", hint=f"Make the system user {USER} by hand.") from None
    if done.returncode:
        raise Problem(f"useradd could not make the user {USER}", detail=done.stderr.strip())


def _own(path: Path, uid: int, gid: int, mode: int) -> None:
    # The order matters, and the file stays open. So nobody can put another file in its place, and the secret is
    # readable at no moment.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(file, mode)
        os.fchown(file, uid, gid)
    finally:
        os.close(file)
