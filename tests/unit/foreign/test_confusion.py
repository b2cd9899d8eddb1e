"""Each layout's values are tried by each layout's reader with the same key: what opens is the same text."""

from __future__ import annotations

import pytest

from pg_envelope import errors
from pg_envelope.foreign.bad import FAILS
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import NAMES, reader_of, slow
from pg_envelope.foreign.reader import ForeignReader
from tests.unit.foreign.fix_cases import CASES

# Ciphers without a check. The first two differ in the padding alone. In the other two, CBC takes the first block of a
# long value for its IV, and reads the rest.
ALIKE = {("sau_aes_pkcs5", "sqlalchemy_utils_aes"), ("raw_aes", "pgcrypto_encrypt_iv")}


def readers(name: str) -> dict[str, ForeignReader]:
    """The readers that take the key of this case."""
    found = {}
    for layout in NAMES:
        try:
            found[layout] = reader_of(layout, CASES[name].key)
        except (errors.BadInput, *FAILS):
            continue
    return found


def opened(reader: ForeignReader, value: str | bytes) -> str | None:
    try:
        return reader.open(value).decode()
    except (errors.InvalidEnvelope, UnicodeDecodeError):
        return None


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not slow(case.layout)])
def test_what_opens_is_the_right_text(name: str) -> None:
    case, wrong = CASES[name], set()
    for layout, reader in readers(name).items():
        for value, plain in zip(case.values[:2] if slow(layout) else case.values, case.plain, strict=False):
            if opened(reader, value) not in (None, plain):
                wrong.add((name, layout))
    assert wrong == {pair for pair in ALIKE if pair[0] == name}


RSA = ("jwk", "pem", "openpgp-armored")
MARKED = [name for name, case in CASES.items() if not slow(case.layout) and case.form not in RSA]


def another(key: LegacyKey) -> LegacyKey:
    """Keys under the same names: of Vault's versions, and of Tink's and MongoDB's key ids."""
    named = {name: _changed(secret) for name, secret in key.named.items()}
    return LegacyKey(key.form, tuple(map(_changed, key.secrets)), named)


def _changed(secret: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in secret)


@pytest.mark.parametrize("name", MARKED)
def test_ciphertext_of_another_key_is_told_by_its_shape(name: str) -> None:
    """So an application that encrypts with another key is refused, and its ciphertext never sealed as a text."""
    case = CASES[name]
    reader = reader_of(case.layout, another(case.key))
    for value in case.values:
        assert reader.fits(value)
        assert not reader.authenticates or not reader.opens(value)
