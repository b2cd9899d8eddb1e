"""Tells by the form of a text whether it is an e-mail address, a telephone number, a card number, a secret, ..."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import NamedTuple

EMAIL = re.compile(r"[^\s@<>()\[\],;:\"]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}")
IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[0-9A-Z]){11,30}")
PAN = re.compile(r"[2-6]\d{3}(?:[ -]?\d){9,15}")
SSN = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}")
PHONE = re.compile(r"(?:\+|00|\(?0|\(\d|\d+[ ./-])[\d ()./-]{5,22}")
ADDRESS_OF_HOST = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
LIKE_A_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}")
ISO_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ]00:00.*)?")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# What makers of keys put in front of them, so that people recognise them.
KNOWN_SECRET = re.compile(
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|gh[oprsu]_\w{30,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|[rs]k_(?:live|test)_\w{10,}|AIza[\w-]{30,}|SG\.[\w-]{16,}\.[\w-]{16,}|hv[bs]\.[\w-]{20,}|npm_\w{30,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
)
RANDOM_SECRET = re.compile(r"[\w+/=.-]{24,200}")
# Of a random text over 64 letters, 24 letters long, hardly one in a million has less.
RANDOM_BITS = 3.6
IBAN_DIGITS = {str(number): str(number) for number in range(10)} | {
    chr(ord("A") + number): str(10 + number) for number in range(26)
}
YOUNGEST, OLDEST = 12, 110
DAYS_OF_A_YEAR = 365.25


class Shape(NamedTuple):
    """A kind of data. A column has it when at least `share` of its values fit."""

    kind: str
    share: float
    fits: Callable[[str], bool]


def is_email(text: str) -> bool:
    return EMAIL.fullmatch(text) is not None


def is_iban(text: str) -> bool:
    """Compares the check digits, too: ISO 13616."""
    if not IBAN.fullmatch(text):
        return False
    plain = text.replace(" ", "")
    return int("".join(IBAN_DIGITS[letter] for letter in plain[4:] + plain[:4])) % 97 == 1


def is_pan(text: str) -> bool:
    """Compares the check digit, too: Luhn's sum."""
    digits = re.sub("[ -]", "", text)
    return PAN.fullmatch(text) is not None and len(digits) <= 19 and len(set(digits)) > 1 and _luhn(digits) % 10 == 0


def _luhn(digits: str) -> int:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return sum(map(int, digits[-1::-2])) + sum(doubled)


def is_ssn(text: str) -> bool:
    return SSN.fullmatch(text) is not None


def is_phone(text: str) -> bool:
    if ADDRESS_OF_HOST.fullmatch(text) or LIKE_A_DATE.fullmatch(text):
        return False
    return PHONE.fullmatch(text) is not None and 7 <= sum(map(str.isdigit, text)) <= 15


def is_secret(text: str) -> bool:
    """A key by its maker's mark, or a text that looks random. A uuid and a hash in hex are not taken for one."""
    return KNOWN_SECRET.fullmatch(text) is not None or _is_random(text)


def _is_random(text: str) -> bool:
    kinds = any(map(str.islower, text)), any(map(str.isupper, text)), any(map(str.isdigit, text))
    fits = RANDOM_SECRET.fullmatch(text) and not UUID.fullmatch(text) and all(kinds)
    return bool(fits) and _bits(text) >= RANDOM_BITS


def _bits(text: str) -> float:
    """Returns the entropy of the letters, in bits a letter."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def is_birth_date(text: str) -> bool:
    """A date on which a person of 12 to 110 years may have been born."""
    found = ISO_DATE.fullmatch(text)
    try:
        age = (date.today() - date.fromisoformat(found[1])).days / DAYS_OF_A_YEAR if found else 0
    except ValueError:
        return False
    return YOUNGEST <= age <= OLDEST


def holds_one(text: str) -> bool:
    """An e-mail address, IBAN or card number somewhere in a longer text."""
    return bool(
        EMAIL.search(text)
        or any(is_iban(found) for found in IBAN.findall(text))
        or any(is_pan(found) for found in PAN.findall(text))
    )


# The first that fits is the column's kind, so the surest stand first.
SHAPES = (
    Shape("e-mail", 0.6, is_email),
    Shape("IBAN", 0.6, is_iban),
    Shape("card number", 0.6, is_pan),
    Shape("social security number", 0.6, is_ssn),
    Shape("date of birth", 0.8, is_birth_date),
    Shape("API key or token", 0.6, is_secret),
    Shape("phone", 0.6, is_phone),
    Shape("personal data in text", 0.05, holds_one),
)
