"""What the system says of a process that hardened itself."""

from __future__ import annotations

import os
import subprocess
import sys

PROBE = """
import ctypes, os, resource
from pg_envelope.broker.system.hardening import harden
harden()
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
locked = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")][0]
print(dumpable, resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)), int(locked) > 0)
"""


def test_no_dump_no_core_private_files_and_locked_memory():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60)
    told = done.stdout.strip()
    assert told.startswith("0 (0, 0) 0o77 "), done.stderr
    assert told.endswith("True") or "memory is not locked" in done.stderr or os.getuid() != 0
