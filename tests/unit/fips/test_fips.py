"""The FIPS provider: what it leaves, what it refuses, and each way in which it cannot be loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fix_fips import fips_config as fips_config
from tests.fix_fips import fresh

LOAD = """
import os, sys
from pg_envelope import errors, fips
try: fips.activate(sys.argv[1])
except errors.NotConfigured as error: print(error.said)
"""
SUITES = """
from pg_envelope import suites
for suite in suites.SUITES.values():
    try:
        aead, nonce = suites.suite_of(suite.number).aead(bytes(32)), bytes(suite.nonce_bytes)
        assert aead.decrypt(nonce, aead.encrypt(nonce, b"x", b"a"), b"a") == b"x"
        print(suite.number)
    except errors.Unsupported as error: print(error.message)
"""
REFUSED = [
    "suite 3 (ChaCha20-Poly1305) is not available while the FIPS provider is active",
    "suite 4 (AES-256-SIV) is not available while the FIPS provider is active",
    "suite 5 (AES-256-GCM-SIV) is not available while the FIPS provider is active",
]
PROVIDER = """
from pg_envelope.aeads import AESGCMSIV, AESSIV, ChaCha20Poly1305
from cryptography.exceptions import UnsupportedAlgorithm
for aead in AESGCMSIV, ChaCha20Poly1305:
    try: aead(bytes(32)).encrypt(bytes(12), b"", None); print("passed")
    except UnsupportedAlgorithm: print("refused")
try: AESSIV(bytes(64)).encrypt(b"x", [b""]); print("passed")
except UnsupportedAlgorithm: print("refused")
"""
PASSWORDS = """
from pg_envelope import argon2id
for call in lambda: argon2id.argon2id("x"), lambda: argon2id.is_argon2id("x", "$argon2id$"):
    try: call()
    except errors.Unsupported as error: print(error.message)
"""
SIGNED = """
from pg_envelope.broker.requests.signing import sign
print(len(sign(bytes(32), {"a": 1}, {}).signature))
"""


def test_suites_of_aes_gcm_stay_and_the_others_are_refused_by_name(fips_config: Path) -> None:
    assert fresh(LOAD + SUITES, fips_config).splitlines() == ["1", "2", *REFUSED]
    assert fresh(SUITES.replace("errors.Unsupported", "ValueError")).split() == ["1", "2", "3", "4", "5"]


def test_the_provider_itself_has_no_other_cipher(fips_config: Path) -> None:
    assert fresh(LOAD + PROVIDER, fips_config).split() == ["refused"] * 3
    assert fresh(PROVIDER).split() == ["passed"] * 3


def test_argon2id_is_refused_by_name(fips_config: Path) -> None:
    message = "Argon2id is not available while the FIPS provider is active"
    assert fresh(LOAD + PASSWORDS, fips_config).splitlines() == [message, message]


def test_the_broker_signs(fips_config: Path) -> None:
    assert fresh(LOAD + SIGNED, fips_config).split() == ["64"]


def test_only_the_import_sees_the_configuration(fips_config: Path) -> None:
    """The OpenSSL of Python and the server would not start with it."""
    told = 'print(fips.active(), fips.python_active(), os.environ.get("OPENSSL_CONF"))'
    assert fresh(LOAD + told, fips_config).split() == ["True", "False", "None"]
    assert fresh("import os; os.environ['OPENSSL_CONF'] = '/a'\n" + LOAD + told, fips_config).split()[2] == "/a"


TWICE = LOAD + "try: fips.activate(sys.argv[1])\nexcept errors.NotConfigured: print('again', fips.active())"


def broken(config: str) -> dict[str, str]:
    digit = config.index("module-mac = ") + len("module-mac = ")
    return {
        "another file's hash": config[:digit] + ("0" if config[digit] != "0" else "1") + config[digit + 1 :],
        "no module": "".join(line for line in config.splitlines(True) if not line.startswith("module =")),
        "a module that is not there": config.replace("fips.so", "fips.none"),
        "a file that is no module": config.replace("fips.so", "fips.cnf"),
        "no hash": "".join(line for line in config.splitlines(True) if not line.startswith("module-mac")),
        "nothing": "",
        "no configuration": "]]]=[[\n",
        "the rule taken back": config + "[algorithms]\ndefault_properties = provider=default\n",
        "cut": config[: len(config) // 2],
    }


def test_what_cannot_be_loaded_ends_the_process_s_work(fips_config: Path, tmp_path: Path) -> None:
    for what, text in broken(fips_config.read_text()).items():
        file = tmp_path / "fips.cnf"
        file.write_text(text)
        first, second = fresh(TWICE, file).splitlines()
        assert first.startswith(f"the FIPS provider cannot be loaded: OpenSSL does not take what {file}"), what
        assert second.startswith("again"), what


@pytest.mark.parametrize("mode", [0o646, 0o664])
def test_a_file_that_others_may_write_is_refused(fips_config: Path, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "fips.cnf"
    file.write_text(fips_config.read_text())
    file.chmod(mode)
    assert fresh(TWICE, file).splitlines() == [
        f"the FIPS provider cannot be loaded: {file} may be written by others",
        "again False",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a file of another user")
def test_a_file_of_another_user_is_refused(fips_config: Path, tmp_path: Path) -> None:
    file = tmp_path / "fips.cnf"
    file.write_text(fips_config.read_text())
    os.chown(file, 12345, -1)
    assert "may be written by others" in fresh(TWICE, file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for file in tmp_path, tmp_path / "none", tmp_path / "binary":
        assert fresh(TWICE, file).splitlines() == [
            f"the FIPS provider cannot be loaded: {file} cannot be read",
            "again False",
        ]


def test_who_imported_cryptography_before_is_told(fips_config: Path) -> None:
    told = fresh("import cryptography.exceptions\n" + TWICE, fips_config).splitlines()
    assert told == ["the FIPS provider cannot be loaded: cryptography was imported without it", "again False"]
