"""The private key as m-of-n shares of words (SLIP-39): the only module that knows shamir_mnemonic."""

from __future__ import annotations

from collections.abc import Sequence

from pg_envelope_client.problems import Problem, usage

MOST = 16
INSTALL = "make install EXTRAS=shares; without a server, in the sources: pip install '.[client,shares]'"


def split(private: bytes, threshold: int, count: int) -> list[str]:
    """`count` lines of words, of which any `threshold` give the key back. Raises Problem."""
    if not 2 <= threshold <= count <= MOST:
        raise usage(f"shares: at least 2 of at most {MOST}, and not more than there are")
    try:
        import shamir_mnemonic
    except ImportError:
        raise Problem("shares need the package shamir-mnemonic", hint=INSTALL) from None
    return list(shamir_mnemonic.generate_mnemonics(1, [(threshold, count)], private)[0])


def combine(words: Sequence[str]) -> bytes:
    """The key. Raises Problem for too few shares, a wrong word, or shares that do not belong together."""
    try:
        import shamir_mnemonic
    except ImportError:
        raise Problem("shares need the package shamir-mnemonic", hint=INSTALL) from None
    try:
        return bytes(shamir_mnemonic.combine_mnemonics(words))
    except shamir_mnemonic.MnemonicError:
        # Its own text can repeat words of a share.
        raise Problem(
            "these shares do not make the key",
            hint="Are there enough of them, all from one `backup-init`, each of 33 words without a slip?",
        ) from None
