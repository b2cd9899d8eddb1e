"""Writes the report as a PDF file, with the signed JSON in it. This is the only module that knows fpdf2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pg_envelope_client.evidence.page import LIMITS, WORDS, origin
from pg_envelope_client.problems import Problem

try:
    from fpdf import FPDF
    from fpdf.fonts import TTFFont
except ImportError:
    raise Problem(
        "fpdf2 is not installed",
        hint="Install it for the command: make install EXTRAS=pdf, or use --format html.",
    ) from None

ATTACHED = "report.json"
BUILT_IN = frozenset(filter(str.isprintable, map(chr, range(256))))
BLACK, GREY = (0, 0, 0), (90, 90, 90)
COLOURS = dict.fromkeys(("yes", "shown"), (10, 107, 45)) | dict.fromkeys(("no", "disproved"), (164, 0, 0))
# It stands for the number of pages, and no text has it, because a control character is written by its code point.
COUNT = "\x1a"
TITLE, HEADING, BODY, SMALL = 16.0, 13.0, 10.0, 8.0


class Paper(FPDF):
    """A4 pages with their numbers. A character that no font has is written as `\\u{...}`, with its code point."""

    def __init__(self, title: str, made_at: datetime, fonts: Sequence[Path]) -> None:
        super().__init__()
        self._fonts = [self._loaded(number, file) for number, file in enumerate(fonts)] or ["helvetica"]
        self._known = self._characters() if fonts else BUILT_IN
        self.set_fallback_fonts(self._fonts[1:])
        self.alias_nb_pages(COUNT)
        self.set_creation_date(made_at)
        self.set_lang("en")
        self.set_title(title)
        self.add_page()
        self.say(title, TITLE)

    def _loaded(self, number: int, file: Path) -> str:
        name = f"font{number}"
        try:
            self.add_font(name, fname=file)
        except Exception as error:
            # The library has no class of its own for this.
            raise Problem(
                f"{file} is no font that can be used", type(error).__name__, "Give a TrueType file."
            ) from None
        return name

    def _characters(self) -> frozenset[str]:
        codes = (code for name in self._fonts if isinstance(font := self.fonts[name], TTFFont) for code in font.cmap)
        return frozenset(map(chr, codes))

    def footer(self) -> None:
        self.set_y(-12)
        self._style(SMALL, GREY)
        self.cell(w=0, text=f"Page {self.page_no()} of {COUNT}", align="R")

    def head(self, text: str) -> None:
        self.ln(4)
        self.start_section(text)
        self.say(text, HEADING)

    def say(self, text: str, size: float = BODY, colour: tuple[int, int, int] = BLACK) -> None:
        self._style(size, colour)
        self.multi_cell(w=0, text=self._shown(text), align="L", new_x="LMARGIN", new_y="NEXT")

    def _style(self, size: float, colour: tuple[int, int, int]) -> None:
        self.set_font(self._fonts[0], size=size)
        self.set_text_color(*colour)

    def _shown(self, text: str) -> str:
        # A control character, such as one that turns the direction, must not change how a name looks.
        return "".join(one if one in self._known and one.isprintable() else f"\\u{{{ord(one):x}}}" for one in text)


def pdf(
    report: Mapping[str, Any], signed: Mapping[str, Any], changed: Sequence[Mapping[str, str]], fonts: Sequence[Path]
) -> bytes:
    """Returns the file. The same arguments give the same bytes. `fonts` are TrueType files: each stands in where those
    before it lack a character. Raises Problem for a file that is no font.
    """
    made_at = datetime.fromisoformat(report["made_at"])
    paper = Paper(f"Encryption of {report['database']}: evidence", made_at, fonts)
    for text in (*origin(report, signed), LIMITS):
        paper.say(text)
    if signed["signature"]:
        paper.say(f"Signature: {signed['signature']}", SMALL)
    _facts(paper, report["facts"])
    _clauses(paper, report["clauses"])
    _changes(paper, changed)
    content = (json.dumps(signed, indent=2) + "\n").encode()
    paper.embed_file(
        bytes=content, basename=ATTACHED, mime_type="application/json", creation_date=made_at, modification_date=made_at
    )
    return bytes(paper.output())


def _facts(paper: Paper, facts: Mapping[str, Mapping[str, Any]]) -> None:
    paper.head("Facts")
    for name, fact in facts.items():
        word = WORDS[fact["holds"]]
        paper.ln(2)
        paper.say(f"{name}: {fact['title']}")
        paper.say(f"holds: {word}", colour=COLOURS.get(word, GREY))
        paper.say(f"value: {fact['value']}")
        paper.say(f"see for yourself: {fact['how']}", SMALL, GREY)


def _clauses(paper: Paper, clauses: Sequence[Mapping[str, Any]]) -> None:
    paper.head("Clauses")
    for clause in clauses:
        paper.ln(2)
        paper.say(f"{clause['framework']} {clause['id']}: {clause['asks']}")
        paper.say(f"verdict: {clause['verdict']}", colour=COLOURS.get(clause["verdict"], GREY))
        paper.say(f"facts: {', '.join(clause['facts'])}")
        paper.say(f"cannot be known here: {clause['unknown']}", SMALL, GREY)


def _changes(paper: Paper, changed: Sequence[Mapping[str, str]]) -> None:
    if changed:
        paper.head("Changes since the earlier report")
    for one in changed:
        paper.ln(2)
        paper.say(one["what"])
        paper.say(f"before: {one['before']}")
        paper.say(f"now: {one['now']}")
