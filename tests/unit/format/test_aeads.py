"""The AEADs by the shortest way: what a session does not import must not be missing when something is wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pg_envelope.suites import SUITES

BAD_BYTES_WITHOUT_IMPORTS = """
import sys
from pg_envelope import errors, suites
from pg_envelope.envelope import FieldKey, header
assert 'typing' not in sys.modules or 'pg_envelope' not in sys.modules['typing'].__name__
key = FieldKey(header(int(sys.argv[1]), padded=False, key_id=1), bytes(16), bytes(32))
assert key.open(key.seal(b'content', b''), b'') == b'content'
# As for want of a file handle, or after the files were removed.
sys.meta_path.clear()
for envelope in (key.head, key.head + bytes(80), key.seal(b'content', b'')):
    try:
        key.open(envelope, b'other row')
    except errors.InvalidEnvelope:
        continue
    raise SystemExit('it opened')
"""
THE_LIBRARY_STAYS = """
import sys
from pg_envelope import suites
import typing
from cryptography.exceptions import InvalidTag
assert typing.__name__ == 'typing' and typing.get_type_hints
assert suites.REFUSALS[0] is InvalidTag
"""


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("suite", SUITES)
def test_bad_bytes_are_an_error_where_nothing_can_be_imported_any_more(suite: int) -> None:
    """The binding of `cryptography` aborts the process when it cannot import the error that it raises."""
    done = python(BAD_BYTES_WITHOUT_IMPORTS, str(suite))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_session_s_own_typing_is_the_library() -> None:
    done = python(THE_LIBRARY_STAYS)
    assert (done.returncode, done.stderr) == (0, "")
