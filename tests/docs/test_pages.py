"""The pages as a reader goes through them: the index has them all, no link leads nowhere, each error has its row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_envelope import errors

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each link that stays in the project."""
    found = [(target, anchor) for target, anchor in LINK.findall(page.read_text()) if ":" not in target]
    return [((page.parent / target).resolve() if target else page, anchor) for target, anchor in found]


def anchors(page: Path) -> set[str]:
    """As Markdown viewers make them of headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(page.read_text())}


def test_the_index_has_every_page() -> None:
    index = ROOT / "docs/README.md"
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - {index}
    assert pages - {target for target, _ in links(index)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{target}#{anchor}"


SOURCES = [
    path for top in ("plpython", "client", "sql", "tests", "bench", "docs") for path in sorted((ROOT / top).rglob("*"))
]
# "FORMAT.md section 1.1", "FORMAT.md sections 5 to 7", "FORMAT.md 1.4", also over the end of a line.
NAMED = re.compile(r"FORMAT\.md\)?,?\s+(?:sections?\s+)?(\d+(?:\.\d+)?(?:(?:,| and| to)\s+\d+(?:\.\d+)?)*)")


def test_each_section_of_the_norm_that_is_named_is_there() -> None:
    numbers = set(re.findall(r"^##+ (\d+(?:\.\d+)?)\.? ", (ROOT / "FORMAT.md").read_text(), re.MULTILINE))
    named = [
        (path, number)
        for path in SOURCES
        if path.suffix in (".py", ".sql", ".md")
        for found in NAMED.findall(path.read_text())
        for number in re.findall(r"[\d.]+", found)
    ]
    assert len(named) > 80
    assert [(path, number) for path, number in named if number.rstrip(".") not in numbers] == []


def below(found: type[errors.EnvelopeError]) -> Iterator[type[errors.EnvelopeError]]:
    for one in found.__subclasses__():
        yield one
        yield from below(one)


BROKEN = [one for one in below(errors.Unavailable) if "text" in vars(one)]


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: error.__name__)
def test_operations_says_what_to_do_about_each_error_of_broker_and_kms(error: type[errors.EnvelopeError]) -> None:
    rows = [line for line in (ROOT / "docs/operations.md").read_text().splitlines() if f"| {error.sqlstate} |" in line]
    said = [words.removesuffix("...") for line in rows for words in re.findall(r"`([^`]+)`", line.split("|")[1])]
    assert any(error.text.startswith(words) for words in said), error.text


ATTACKS = (ROOT / "docs/attacks.md").read_text()
# A file below tests, and then names of tests or of cases in it, until the next file.
TRIED = [
    (file, name)
    for file, names in re.findall(r"`([\w/]+\.py)`([^|;\n]*)", ATTACKS)
    for name in re.findall(r"`(\w+)`", names) or [""]
]


@pytest.mark.parametrize(("file", "name"), TRIED)
def test_each_attack_on_the_page_is_tried(file: str, name: str) -> None:
    source = (ROOT / "tests" / file).read_text()
    assert not name or f"def {name}(" in source or f'"{name}"' in source


def test_each_case_of_an_attack_is_on_the_page() -> None:
    source = (ROOT / "tests/integration/masks/fix_attacks.py").read_text()
    cases = re.findall(r'^    "(\w+)": ', source.partition("FAILS = ")[0], re.MULTILINE)
    assert len(cases) > 40
    named = {name for _, name in TRIED}
    assert sorted(set(cases) - named) == []
