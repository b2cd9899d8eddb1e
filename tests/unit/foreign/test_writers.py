"""What export writes is read by the readers here, and by the real libraries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.keys import LegacyKey, parse
from pg_envelope.foreign.presets import reader_of
from pg_envelope.foreign.writers import WRITERS, writer_of

KEYS = {
    "pgp_sym": parse("text", "correct horse, Zoë".encode()),
    "fernet": parse("fernet", Fernet.generate_key()),
    "node_json": parse("hex", b"5a" * 32),
}


@given(st.sampled_from(sorted(WRITERS)), st.binary(max_size=9000))
def test_what_is_written_is_read(form: str, content: bytes) -> None:
    written = writer_of(form, KEYS[form])(content)
    assert reader_of(form, KEYS[form]).open(written) == content
    assert written != writer_of(form, KEYS[form])(content)


@given(st.binary(max_size=100))
def test_fernet_itself_reads_it(content: bytes) -> None:
    key = Fernet.generate_key()
    assert Fernet(key).decrypt(writer_of("fernet", parse("fernet", key))(content)) == content


@pytest.mark.parametrize("content", [b"", "Zoë".encode(), b"a" * 200, bytes(range(256)) * 40])
def test_gpg_reads_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "message"
    file.write_bytes(bytes(writer_of("pgp_sym", KEYS["pgp_sym"])(content)))
    command = [
        "gpg",
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase-fd",
        "0",
        "--decrypt",
        str(file),
    ]
    done = subprocess.run(
        command,
        input=KEYS["pgp_sym"].secrets[0],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "GNUPGHOME": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, content), done.stderr.decode()


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("pgp_sym", LegacyKey("text", ())),
        ("fernet", KEYS["pgp_sym"]),
        ("node_json", KEYS["pgp_sym"]),
        ("jwe", KEYS["node_json"]),
    ],
)
def test_a_key_that_does_not_fit_is_refused(form: str, key: LegacyKey) -> None:
    with pytest.raises(BadLayout):
        writer_of(form, key)
