"""Takes the text of SQL apart into tokens, after section 4.1 of PostgreSQL's manual. It knows no grammar.

A parser in the server's own process would be another copy of the server's parser, and crash it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from pg_envelope.typed import NamedTuple

# Kinds of tokens. A `string` has no escapes of its own, unless standard_conforming_strings is off or it begins with U&.
WORD, QUOTED, UNICODE_NAME, STRING, ESCAPE_STRING, DOLLAR_STRING, VALUE, SIGN, UNREAD = (
    "word", "quoted", "unicode_name", "string", "escape_string", "dollar_string", "value", "sign", "unread",
)  # fmt: skip
LITERALS = frozenset((STRING, ESCAPE_STRING, DOLLAR_STRING))
# Two strings with a line's end between them are one, and comments of a line can lie there.
CONTINUES = r"(?: [ \t\f\v]* (?:--[^\n\r]*)? [\n\r] (?:[ \t\n\r\f\v]* --[^\n\r]*[\n\r])* [ \t\n\r\f\v]*"
# Every character beyond ASCII can be in a name. A sign ends where a comment begins.
TOKEN = rf"""
    (?P<skipped> [ \t\n\r\f\v]+ | --[^\n\r]* )
  | (?P<comment> /\* )
  | (?P<escape_string> [eE]'(?:[^'\\]|\\.|'')*' {CONTINUES} '(?:[^'\\]|\\.|'')*')* )
  | (?P<string> [bBxX]'[^']*' {CONTINUES} '[^']*')* | (?:[uU]&|[nN])?'(?:[^']|'')*' {CONTINUES} '(?:[^']|'')*')* )
  | (?P<dollar_string> \$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$.*?\$(?P=tag)\$ )
  | (?P<unicode_name> [uU]&"(?:[^"]|"")+" )
  | (?P<quoted> "(?:[^"]|"")+" )
  | (?P<value> 0[xX](?:_?[0-9A-Fa-f])+ | 0[oO](?:_?[0-7])+ | 0[bB](?:_?[01])+
             | (?: \d(?:_?\d)* (?: \.(?!\.) (?:\d(?:_?\d)*)? )? | \.\d(?:_?\d)* ) (?: [eE][-+]?\d(?:_?\d)* )?
             | \$\d+ )
  | (?P<unread> [eE]' | ['"$] )
  | (?P<word> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
  | (?P<sign> :: | := | \.\. | (?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+ | . )
    """
COMMENT_MARK = re.compile(r"/\*|\*/")
ENDS_IN_SIGN = frozenset("~!@#%^&|`?")
# The case of letters beyond ASCII counts, as PostgreSQL has it in UTF-8.
UPPER = str.maketrans({chr(letter): chr(letter).lower() for letter in range(ord("A"), ord("Z") + 1)})


class SqlToken(NamedTuple):
    """`text` is as it was written, but for a word, which is in small letters."""

    kind: str
    text: str

    @property
    def name(self) -> str | None:
        """The name or keyword that it stands for, as the server knows it."""
        if self.kind == QUOTED:
            return unquoted(self.text)
        return self.text if self.kind == WORD else None


def tokens(text: str) -> Iterator[SqlToken]:
    """Yields the tokens, without comments. What begins and does not end gives an `unread` one."""
    token, at = _token(), 0
    while found := token.match(text, at):
        at = found.end()
        kind = found.lastgroup if found.lastgroup != "tag" else DOLLAR_STRING
        if kind == "comment":
            at = _comment_end(text, at)
            if at > len(text):
                yield SqlToken(UNREAD, found[0])
        elif kind == WORD:
            yield SqlToken(WORD, found[0].translate(UPPER))
        elif kind == SIGN:
            sign = _sign(found[0])
            at = found.start() + len(sign)
            yield SqlToken(SIGN, sign)
        elif kind != "skipped":
            yield SqlToken(str(kind), found[0])


@cache
def _token() -> re.Pattern[str]:
    """Compiles the pattern, at its first use: that takes 9 ms, and most sessions read no statement."""
    return re.compile(TOKEN, re.VERBOSE | re.DOTALL | re.ASCII)


def _sign(text: str) -> str:
    """Returns the operator: a + or - at its end belongs to it only if some other sign in it allows that."""
    while len(text) > 1 and text[-1] in "+-" and ENDS_IN_SIGN.isdisjoint(text):
        text = text[:-1]
    return text


def unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"')


def _comment_end(text: str, at: int) -> int:
    """Returns the place behind a comment, in which others may lie; one that has no end goes beyond the text."""
    depth = 1
    for mark in COMMENT_MARK.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text) + 1
