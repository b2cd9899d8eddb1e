"""Describes the peers: how each stores three columns, reads them and writes them. All hold the same people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import sodium

PROTECTED = ("name", "email", "phone")
OPEN = ("city", "joined")
SOURCE_COLUMNS = {"id": "bigint", "name": "text", "email": "text", "phone": "text", "city": "text", "joined": "date"}
# These peers are used with keys in SQL text. The benchmark's keys are no secrets.
KEY = r"'\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f'::bytea"
PASSPHRASE = "'correct horse battery staple'"


@dataclass(frozen=True)
class Peer:
    """`read` gives the expression for a column's text, `write` the expressions for a source row's column.

    `drawn` is what each protected column of a source row needs besides (a nonce); `slow` ones get a part of the rows.
    `view` is what reads, if not the table; `prepare` is run once the table is there.
    """

    name: str
    title: str
    stored: str
    read: Callable[[str], str]
    write: Callable[[str], dict[str, str]]
    drawn: str | None = None
    slow: bool = False
    view: str | None = None
    prepare: Sequence[str] = ()

    def create(self) -> str:
        columns = [f"{name} {self.stored}" for column in PROTECTED for name in self.write(column)]
        return f"CREATE TABLE {self.name} (id bigint PRIMARY KEY, {', '.join(columns)}, city text, joined date)"

    def insert(self, source: str) -> str:
        """Returns an INSERT of all rows of `source`, a table expression with SOURCE_COLUMNS."""
        written = {name: expression for column in PROTECTED for name, expression in self.write(column).items()}
        drawn = [f"{self.drawn} AS {column}_drawn" for column in PROTECTED] if self.drawn else []
        inner = ", ".join(["source.*", *drawn])
        return (
            f"INSERT INTO {self.name} (id, {', '.join(written)}, {', '.join(OPEN)}) "
            f"SELECT id, {', '.join(written.values())}, {', '.join(OPEN)} FROM (SELECT {inner} FROM {source}) s"
        )

    def scan(self, columns: int) -> str:
        counts = ", ".join(f"count({self.read(column)})" for column in PROTECTED[-columns:])
        return f"SELECT {counts} FROM {self.view or self.name}"


def _same(column: str) -> str:
    return column


def _as_it_is(column: str) -> dict[str, str]:
    return {column: column}


PLAIN = Peer("plain", "plain table", "text", _same, _as_it_is)
OURS = Peer("ours", "pg_envelope", "text", _same, _as_it_is)
IV = Peer(
    "pgcrypto_iv",
    "pgcrypto decrypt_iv",
    "bytea",
    lambda column: f"convert_from(decrypt_iv({column}, {KEY}, {column}_iv, 'aes-cbc'), 'UTF8')",
    lambda column: {
        column: f"encrypt_iv(convert_to({column}, 'UTF8'), {KEY}, {column}_drawn, 'aes-cbc')",
        f"{column}_iv": f"{column}_drawn",
    },
    drawn="gen_random_bytes(16)",
)
PGP = Peer(
    "pgcrypto_pgp",
    "pgcrypto pgp_sym_decrypt",
    "bytea",
    lambda column: f"pgp_sym_decrypt({column}, {PASSPHRASE})",
    lambda column: {column: f"pgp_sym_encrypt({column}, {PASSPHRASE})"},
    slow=True,
)
SODIUM = Peer(
    "pgsodium",
    "pgsodium by key uuid",
    "text",
    lambda column: f"decrypted_{column}",
    _as_it_is,
    view="decrypted_pgsodium",
    prepare=sodium.labels("public.pgsodium", PROTECTED),
)
EXTENSIONS = {IV.name: "pgcrypto", PGP.name: "pgcrypto", SODIUM.name: "pgsodium"}
ALL = (PLAIN, OURS, IV, PGP, SODIUM)
