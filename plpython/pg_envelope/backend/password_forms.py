"""Recognises what a column of passwords holds besides passwords: hashes, and marks of accounts that nobody can log in
to.

The forms are regular expressions of PostgreSQL. A hash that is hashed again is lost. A mark that is hashed would open
the account to everybody who knows the mark.
"""

from __future__ import annotations

from pg_envelope.backend.sqltext import literal

# verify_password() reads these. The 13 characters of a DES hash name no algorithm, so they may be a password.
READABLE = (
    r"\$(2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}|argon2id\$v=19\$m=\S+|1\$[^$]{0,8}\$[./A-Za-z0-9]{22}|[56]\$.{43,})"
)
FOREIGN = "|".join(
    (
        # crypt() of many systems, passlib, phpass, Drupal
        r"\$(1|2[abxy]?|3|5|6|7|8|9|y|gy|sm3y?|md5|sha1|apr1|argon2(i|d|id)|scrypt|bcrypt(-sha256)?"
        r"|pbkdf2(-[a-z0-9]+)?|P|H|S)[$,]\S{8,}",
        # Django
        r"(pbkdf2_sha[0-9]+|argon2|bcrypt|bcrypt_sha256|scrypt|sha1|md5|crypt|unsalted_(md5|sha1))\$\S*\$\S+",
        # Werkzeug
        r"(pbkdf2|scrypt)(:\w+)+\$\S+\$[0-9a-f]+",
        # LDAP and Spring Security
        r"\{(S?SHA(-?[0-9]+)?|S?MD[45]|CRYPT|PBKDF2[-A-Z0-9]*|ARGON2|BCRYPT|SCRYPT)\}\S+",
        r"\{(s?sha(-?[0-9]+)?|s?md[45]|crypt|pbkdf2[-a-z0-9]*|argon2|bcrypt|scrypt)\}\S+",
        # PostgreSQL, MySQL, SQL Server, ASP.NET Core
        r"SCRAM-SHA-256\$[0-9]+:\S+\$\S+:\S+",
        r"md5[0-9a-f]{32}",
        r"\*[0-9A-F]{40}",
        r"0x0[12]00[0-9A-Fa-f]{40,}",
        r"AQAAAA[+/A-Za-z0-9]{70,}={0,2}",
        # Bare digests of MD5 and the SHA family, with or without a salt behind
        r"([0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{56}|[0-9A-Fa-f]{64}|[0-9A-Fa-f]{96}|[0-9A-Fa-f]{128})(:\S{1,64})?",
    )
)
LOCKED = "|".join(
    (
        # Nothing, or nothing but marks: '!', '*', '!!', '-'
        r"[-!*\s[:cntrl:]]*",
        # The placeholders of passwd and shadow, and what crypt() returns when it fails
        r"[!*]*(x|NP|LK|NL|UP)",
        r"\*[01]",
        # A mark with the account's old hash, or anything else, behind it: '*LK*...', '!$2b$...'
        r"[!*]*\*(LK|NP|NL|UP|LOCKED|DISABLED|EXPIRED|NOLOGIN)\*.*",
        rf"[!*]+({READABLE}|{FOREIGN})",
        # Django's unusable password
        r"![A-Za-z0-9]{40}",
    )
)


def _is(forms: str, value: str) -> str:
    return f"{value} OPERATOR(pg_catalog.~) {literal(f'^({forms})$')}"


def is_foreign(value: str) -> str:
    """Returns an SQL expression that is true for a hash that verify_password() does not read. `value` is an
    expression of type text.
    """
    return f"{_is(FOREIGN, value)} AND NOT {_is(READABLE, value)}"


def is_locked(value: str) -> str:
    """Returns an SQL expression that is true for a mark. MySQL's hashes begin like one."""
    return f"{_is(LOCKED, value)} AND NOT {_is(FOREIGN, value)}"


def is_password(value: str) -> str:
    """Returns an SQL expression that is true for a value that is neither a hash nor a mark."""
    return f"NOT {_is('|'.join((READABLE, FOREIGN, LOCKED)), value)}"
