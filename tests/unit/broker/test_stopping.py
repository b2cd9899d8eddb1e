"""The process ends, also while a thread hangs in something that nobody can close."""

from __future__ import annotations

import subprocess
import sys

HANGS = """
import threading
from pg_envelope.broker import app
from pg_envelope.broker.kms.kms import THREADS
threading.Thread(target=threading.Event().wait, name=THREADS + "main").start()
app._leave_hanging_threads()
"""


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], timeout=60, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
