"""Writes HTML pages: all text is escaped, no script runs, and nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Marked(NamedTuple):
    """A cell's text with a class of page.css."""

    text: str
    style: str


class Markup(NamedTuple):
    """A cell that is HTML already. Who makes it has escaped its texts."""

    html: str


Cell = str | Marked | Markup


def whole(title: str, body: Iterable[str], head: str = "") -> str:
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">{head}<style>{style}</style></head>',
        f"<body><h1>{escape(title)}</h1>",
    ]
    return "\n".join((*parts, *body, "</body></html>\n"))


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def table(title: str, heads: Sequence[str], rows: Iterable[str], empty: str = "") -> str:
    """Returns a heading and a table. Without `heads` the text `empty` stands in the place of the table."""
    if not heads:
        return f"<h2>{escape(title)}</h2>{paragraph(empty)}"
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def row(*cells: Cell, name: str = "") -> str:
    """Returns a row of a table. Links may lead to its `name`."""
    opening = f'<tr id="{escape(name)}">' if name else "<tr>"
    return f"{opening}{''.join(map(_cell, cells))}</tr>"


def _cell(cell: Cell) -> str:
    match cell:
        case Markup(html):
            return f"<td>{html}</td>"
        case Marked(text, style):
            return f'<td class="{escape(style)}">{escape(text)}</td>'
        case _:
            return f"<td>{escape(cell)}</td>"
