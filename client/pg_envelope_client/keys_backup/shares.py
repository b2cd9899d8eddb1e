"""Splits the private key into m-of-n shares of words (SLIP-39). Only this module knows shamir_mnemonic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pg_envelope_client.problems import Problem, usage

MOST = 16
INSTALL = "On the server, make install has it. Elsewhere, in a clone: pip install '.[shares]'"
WORDS = 33


def split(private: bytes, threshold: int, count: int) -> list[str]:
    """Returns `count` lines of words, of which any `threshold` give the key back. Raises Problem."""
    if not 2 <= threshold <= count <= MOST:
        raise usage(f"shares: at least 2 of at most {MOST}, and not more than there are")
    return list(_library().generate_mnemonics(1, [(threshold, count)], private)[0])


def combine(words: Sequence[str]) -> bytes:
    """Returns the key, from at least as many shares as are needed. Raises Problem, which names a wrong share."""
    pile = Pile()
    for number, line in enumerate(words, 1):
        pile.add(line, f"share {number}")
    return pile.key()


class Pile:
    """Collects shares. Each is checked at once, while its holder is there to correct a slip."""

    def __init__(self) -> None:
        self._shares: dict[int, Any] = {}
        self._names: dict[int, str] = {}

    @property
    def enough(self) -> bool:
        return len(self._shares) >= (self._needed or MOST + 1)

    @property
    def _needed(self) -> int:
        """Returns how many shares are needed, as each of them says; 0 before the first."""
        return next((int(share.member_threshold) for share in self._shares.values()), 0)

    def add(self, words: str, name: str) -> None:
        """Adds a share. Raises Problem for a slip, for a share of another set, and for one that is there already.

        After an error the pile is as it was before.
        """
        share = _read(words, name)
        for other, found in self._shares.items():
            if found.group_parameters() != share.group_parameters():
                raise Problem(
                    f"{name} and {self._names[other]} are of different sets",
                    hint="Each `keys-backup init` makes a set of its own.",
                )
        if share.index in self._shares:
            raise Problem(
                f"{name} is the same share as {self._names[share.index]}", hint="Each holder has another one."
            )
        self._shares[share.index], self._names[share.index] = share, name

    def key(self) -> bytes:
        """Returns the key. Raises Problem when the shares are too few, or make no key."""
        if not self.enough:
            needed = f"{self._needed} are needed" if self._shares else "none was given"
            raise Problem("these shares do not make the key", detail=f"{len(self._shares)} shares; {needed}")
        # The library takes only as many shares as are needed.
        chosen = [share.mnemonic() for share in self._shares.values()][: self._needed]
        try:
            return bytes(_library().combine_mnemonics(chosen))
        except _library().MnemonicError:
            # The library's own text can repeat words of a share.
            raise Problem("these shares do not make the key") from None


def _read(words: str, name: str) -> Any:
    """Reads a share. Raises Problem, which tells a word by its place and never repeats it."""
    from shamir_mnemonic.share import Share

    given = words.lower().split()
    unknown = [place for place, word in enumerate(given, 1) if word not in _list()]
    if unknown:
        raise _slip(name, f"no words of the list: {', '.join(f'word {place}' for place in unknown)}")
    if len(given) != WORDS:
        raise _slip(name, f"it has {len(given)} words, and should have {WORDS}")
    try:
        return Share.from_mnemonic(" ".join(given))
    except _library().MnemonicError:
        raise _slip(name, _suspect(given)) from None


def _slip(name: str, detail: str) -> Problem:
    return Problem(f"there is a slip in {name}", detail=detail, hint="Compare it with what its holder wrote down.")


def _suspect(words: Sequence[str]) -> str:
    """Returns a text that tells where the wrong word is. If only one word is wrong, one place can be mended.

    The text does not tell the right word (SLIP-39).
    """
    indices = [_list()[word] for word in words]
    for place in range(len(indices)):
        if any(_fits([*indices[:place], other, *indices[place + 1 :]]) for other in range(len(_list()))):
            return f"its checksum does not fit; look at word {place + 1}"
    return "its checksum does not fit; more than one word is wrong, or their order"


def _fits(indices: list[int]) -> bool:
    from shamir_mnemonic import constants, rs1024

    # Bit 4 of the second word tells it (SLIP-39, "ext").
    extendable = constants.CUSTOMIZATION_STRING_EXTENDABLE
    customization = extendable if indices[1] >> 4 & 1 else constants.CUSTOMIZATION_STRING_ORIG
    return bool(rs1024.verify_checksum(indices, customization))


def _list() -> dict[str, int]:
    _library()
    from shamir_mnemonic.wordlist import WORD_INDEX_MAP

    known: dict[str, int] = WORD_INDEX_MAP
    return known


def _library() -> Any:
    try:
        import shamir_mnemonic
    except ImportError:
        raise Problem("shares need the package shamir-mnemonic", hint=INSTALL) from None
    return shamir_mnemonic
