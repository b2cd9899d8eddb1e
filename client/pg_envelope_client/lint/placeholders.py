"""Makes the placeholders of drivers readable for PostgreSQL's parser, without a change of the statement's length."""

from __future__ import annotations

import re

# What is quoted or a comment stays as it is. `::` is a cast. Each placeholder becomes a parameter and blanks.
_PARTS = re.compile(
    r"""(?P<keep>'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|--[^\n]*|/\*.*?\*/|::|:=)
    |(?P<named>%\(\w+\)[sbt]|%[sbt]\b|(?<![\w:]):[A-Za-z_]\w*|(?<![\w@]){\w*})
    |(?P<mark>\?)""",
    re.VERBOSE | re.DOTALL,
)


def neutral(statement: str, *, marks: bool) -> str:
    """Returns the statement with `$1` for %s, %(name)s, :name and {name}; with `marks`, also 0 for each `?`."""

    def put(match: re.Match[str]) -> str:
        if match["named"]:
            return "$1".ljust(len(match[0]))
        return "0" if match["mark"] and marks else match[0]

    return _PARTS.sub(put, statement)
