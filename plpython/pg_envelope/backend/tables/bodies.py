"""Finds out, by reading their functions, which of the table's own triggers would notice its protection.

It is a small lexer, not a parser: it passes over comments and literals, and looks for a few words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate import Layout

TRIGGERS = """
SELECT t.tgname AS name, l.lanname AS language, p.prosrc AS body, pg_get_triggerdef(t.oid) AS definition,
    t.tgtype::int & 1 = 0 AS once, t.tgtype::int & 20 <> 0 AS writes, coalesce(t.tgoldtable, t.tgnewtable) AS transition
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgname !~ '^[~!]envelope_' ORDER BY 1"""

TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \$(\w*)\$.*?\$\1\$
    | "(?P<quoted>(?:[^"]|"")*)" | (?P<word>\w+) | (?P<mark>\S)""",
    re.VERBOSE | re.DOTALL,
)


def differences(host: Host, oid: int, layout: Layout) -> Iterator[str]:
    """Yields a line for each trigger that would notice something, with the way out."""
    for row in host.rows(TRIGGERS, ["oid"], [oid]):
        found = list(_of_body(row["language"], row["body"], layout.protected))
        if row["once"] and row["writes"]:
            found.append("fires once for each row of an INSERT or UPDATE, not once for the statement")
        if found:
            yield f"{row['name']}: {'; '.join(found)}"


def _of_body(language: str, body: str, protected: Collection[str]) -> Iterator[str]:
    if language != "plpgsql":
        yield f"its function, in {language}, cannot be read from here: see whether it uses protected columns"
        return
    words = list(tokens(body))
    used = sorted(_columns(words) & set(protected))
    if used:
        yield f"sees envelopes in {', '.join(map(ident, used))} of NEW or OLD"
    if _whole_rows(words):
        yield "uses NEW or OLD as a whole, in which protected columns are envelopes"
    if {"tg_table_name", "tg_relname", "tg_relid"} & set(words):
        yield "hears the name of the base table from TG_TABLE_NAME or TG_RELID"
    if "pg_trigger_depth" in words:
        yield "pg_trigger_depth() is one more than on the plain table"
    if "execute" in words:
        yield "builds SQL while it runs, which cannot be read beforehand"


def tokens(body: str) -> Iterator[str]:
    """Yields the words and marks of a PL/pgSQL body, unquoted names in lower case."""
    for found in TOKEN.finditer(body):
        if found["quoted"] is not None:
            yield found["quoted"].replace('""', '"')
        elif found["word"] or found["mark"]:
            yield (found["word"] or found["mark"]).lower()


def _columns(words: list[str]) -> set[str]:
    """Returns the names that follow NEW. or OLD."""
    return {
        column
        for row, dot, column in zip(words, words[1:], words[2:], strict=False)
        if row in ("new", "old") and dot == "."
    }


def _whole_rows(words: list[str]) -> bool:
    """Tells whether the body uses NEW or OLD as a whole: neither with a column's name, nor to return it."""
    padded = ["", *words, ""]
    around = zip(padded, words, padded[2:], strict=False)
    return any(
        word in ("new", "old") and after != "." and before != "return" and not (before == "." and after == "")
        for before, word, after in around
    ) or any(row in ("new", "old") and star == "*" for row, _, star in zip(words, words[1:], words[2:], strict=False))
