#!/usr/bin/python3
"""Runs the ExecStart of a systemd service as systemd would, on a machine without it: `unit.py start|stop|reload UNIT`.

User, groups, umask, environment, folders, credentials, limits, a read-only file system, no capabilities, and the filter
of system calls are the unit's, its drop-ins included. The sets of system calls are those of `systemd-analyze`. An
option that is not known here stops the run: nobody shall believe that it was tried.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import seccomp

PLACES = (Path("/usr/local/lib/systemd/system"), Path("/etc/systemd/system"))
ROOT = Path("/mnt")
PIDS = Path("/run/unit")
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CLONE_NEWNS = 0x20000
WRITE, EXECUTE = 2, 4
FOLDERS = {"Runtime": "/run", "Logs": "/var/log", "State": "/var/lib"}
DONE = [
    "Description",
    "After",
    "Wants",
    "Before",
    "Type",
    "ExecStart",
    "ExecReload",
    "Restart",
    "RestartSec",
    "TimeoutStopSec",
    "User",
    "Group",
    "SupplementaryGroups",
    "UMask",
    "Environment",
    "LoadCredential",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "LogsDirectory",
    "LogsDirectoryMode",
    "StateDirectory",
    "StateDirectoryMode",
    "LimitCORE",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "ProtectSystem",
    "ProtectHome",
    "ProtectProc",
    "ProcSubset",
    "PrivateTmp",
    "RestrictAddressFamilies",
    "MemoryDenyWriteExecute",
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "WantedBy",
]
# What cannot be emulated in a chroot, and could not hurt this service: it touches neither clocks, hosts, devices,
# kernel settings, namespaces, real-time scheduling nor set-user-id files.
LEFT_OUT = [
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "PrivateDevices",
    "PrivateUsers",
    "RemoveIPC",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "SystemCallArchitectures",
]

libc = ctypes.CDLL(None, use_errno=True)


class Unit:
    """The settings of a unit and its drop-ins; each has a list of values, which an empty one clears."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, list[str]] = {}
        files = [place / f"{name}.service" for place in PLACES]
        files += sorted(Path(f"/etc/systemd/system/{name}.service.d").glob("*.conf"))
        for file in files:
            if file.exists():
                self._read(file.read_text())

    def _read(self, text: str) -> None:
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if not equals or key.startswith("#"):
                continue
            if key not in (*DONE, *LEFT_OUT):
                sys.exit(f"unit.py: {key} is not emulated")
            self.values[key] = [*self.values.get(key, []), value] if value else []

    def one(self, key: str, default: str = "") -> str:
        return (self.values.get(key) or [default])[-1]

    def words(self, key: str) -> list[str]:
        return [word for value in self.values.get(key, []) for word in shlex.split(value)]


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def folders(unit: Unit, uid: int, gid: int) -> list[Path]:
    """The unit's own folders, made if need be: all that it may write to."""
    made = []
    for kind, top in FOLDERS.items():
        for name in unit.words(f"{kind}Directory"):
            path = Path(top, name)
            path.mkdir(exist_ok=True)
            path.chmod(int(unit.one(f"{kind}DirectoryMode", "0755"), 8))
            os.chown(path, uid, gid)
            made.append(path)
    return made


def file_system(unit: Unit, writable: list[Path], gid: int) -> None:
    """A root of its own, read-only but for the folders; credentials as systemd shows them."""
    assert (unit.one("ProtectSystem"), unit.one("ProtectHome"), unit.one("PrivateTmp")) == ("strict", "yes", "yes")
    checked(libc.unshare(CLONE_NEWNS))
    mount("--make-rprivate", "/")
    mount("--rbind", "/", ROOT)
    mount("-o", "remount,bind,ro", ROOT)
    for path in writable:
        mount("--bind", path, ROOT / path.relative_to("/"))
    for name in ("tmp", "var/tmp", "home", "root"):
        mount("-t", "tmpfs", "-o", "mode=1777" if "tmp" in name else "mode=000", "tmpfs", ROOT / name)
    options = f"hidepid={unit.one('ProtectProc', 'default')},subset={unit.one('ProcSubset', 'all')}"
    mount("-t", "proc", "-o", options, "proc", ROOT / "proc")
    credentials(unit, gid)
    os.chroot(ROOT)
    os.chdir("/")


def credentials(unit: Unit, gid: int) -> None:
    """The files belong to root, with mode 0440: so the group's bits show the access list of the service's user."""
    wanted = [word.split(":", 1) for word in unit.words("LoadCredential")]
    if not wanted:
        return
    # Before the root is read-only there is the folder to mount on.
    place = ROOT / f"run/credentials/{unit.name}.service"
    mount("-t", "tmpfs", "-o", "mode=750", "tmpfs", place)
    os.chown(place, 0, gid)
    for name, source in wanted:
        shutil.copyfile(source, place / name)
        os.chown(place / name, 0, gid)
        (place / name).chmod(0o440)
    mount("-o", "remount,bind,ro", place)


def environment(unit: Unit) -> dict[str, str]:
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    found |= dict(word.split("=", 1) for word in unit.words("Environment"))
    if unit.words("LoadCredential"):
        found["CREDENTIALS_DIRECTORY"] = f"/run/credentials/{unit.name}.service"
    return found


def limits(unit: Unit) -> None:
    for key in ("CORE", "MEMLOCK", "NOFILE"):
        number = getattr(resource, f"RLIMIT_{key}")
        if value := unit.one(f"Limit{key}"):
            bound = resource.RLIM_INFINITY if value == "infinity" else int(value)
            try:
                resource.setrlimit(number, (bound, bound))
            except (ValueError, PermissionError):
                print(f"unit.py: this machine does not let root raise {key}", file=sys.stderr)


def drop(unit: Unit, user: pwd.struct_passwd, gid: int) -> None:
    """The user with its groups, no capability, and nothing that could bring one back."""
    assert unit.values["CapabilityBoundingSet"] == []
    assert unit.one("NoNewPrivileges") == "yes"
    extra = [grp.getgrnam(name).gr_gid for name in unit.words("SupplementaryGroups")]
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) if Path("/proc/sys/kernel").exists() else 40
    for capability in range(last + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([*{*os.getgrouplist(user.pw_name, gid), *extra}])
    os.setresgid(gid, gid, gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.umask(int(unit.one("UMask", "0022"), 8))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def calls_of(name: str) -> set[str]:
    """The system calls of one of systemd's sets, or the one call."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.strip() for line in told.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in calls_of(line)}


def allowed(unit: Unit) -> set[str]:
    """As systemd reads its lines: the first says what is allowed, ~ takes away, a later one without ~ gives back."""
    found: set[str] = set()
    for value in unit.values.get("SystemCallFilter", []):
        calls = {call for word in value.lstrip("~").split() for call in calls_of(word)}
        found = found - calls if value.startswith("~") else found | calls
    return found | calls_of("@default")


def filter_calls(unit: Unit, calls: set[str]) -> None:
    assert (unit.one("MemoryDenyWriteExecute"), unit.one("SystemCallErrorNumber")) == ("yes", "EPERM")
    found = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for call in sorted(calls - {"mmap", "mprotect", "pkey_mprotect", "socket"}):
        try:
            found.add_rule(seccomp.ALLOW, call)
        except RuntimeError:
            continue  # not a call of this processor
    either = WRITE | EXECUTE
    for protection in (0, WRITE, EXECUTE):
        found.add_rule(seccomp.ALLOW, "mmap", seccomp.Arg(2, seccomp.MASKED_EQ, either, protection))
    for call in ("mprotect", "pkey_mprotect"):
        found.add_rule(seccomp.ALLOW, call, seccomp.Arg(2, seccomp.MASKED_EQ, EXECUTE, 0))
    for family in unit.words("RestrictAddressFamilies"):
        found.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, getattr(socket, family)))
    found.load()


def run(unit: Unit) -> None:
    user = pwd.getpwnam(unit.one("User"))
    gid = grp.getgrnam(unit.one("Group")).gr_gid if unit.one("Group") else user.pw_gid
    calls = allowed(unit)
    writable = folders(unit, user.pw_uid, gid)
    Path(f"/run/credentials/{unit.name}.service").mkdir(parents=True, exist_ok=True)
    Path("/run/credentials").chmod(0o755)
    file_system(unit, writable, gid)
    limits(unit)
    drop(unit, user, gid)
    words = unit.words("ExecStart")
    filter_calls(unit, calls)
    os.execve(words[0], words, environment(unit))


def start(unit: Unit) -> None:
    """In the background, with its output in /run/unit/NAME.log; as Type=exec, this does not wait until it is ready."""
    PIDS.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(PIDS / f"{unit.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        run(unit)
    (PIDS / unit.name).write_text(str(child))


def stop(unit: Unit) -> None:
    pid = int((PIDS / unit.name).read_text())
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(150):
            os.kill(pid, 0)
            time.sleep(0.1)
    except ProcessLookupError:
        return
    sys.exit(f"unit.py: {unit.name} does not stop")


def reload(unit: Unit) -> None:
    """As the unit's ExecReload does."""
    os.kill(int((PIDS / unit.name).read_text()), signal.SIGHUP)


if __name__ == "__main__":
    {"start": start, "stop": stop, "reload": reload}[sys.argv[1]](Unit(sys.argv[2]))
