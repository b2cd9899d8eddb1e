"""Names the paths to which a contains search of jsonb is restricted, as part of its normaliser: FORMAT.md section 8.3.

A path has the keys of objects from the top to a value. Arrays on the way do not count.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pg_envelope import errors
from pg_envelope.typed import Any

Path = tuple[str, ...]

PATH = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*"
NAME = re.compile(rf"contains-({PATH}(?:,{PATH})*)/1")
MOST_PATHS = 20
HINT = 'For example: {"notes": {"search": {"contains": {"paths": ["city", "address.zip"]}}}}.'


@lru_cache(maxsize=64)
def of_name(versioned: str) -> tuple[Path, ...] | None:
    """Returns the paths of a normaliser. None: it has none."""
    found = NAME.fullmatch(versioned)
    return tuple(tuple(path.split(".")) for path in found[1].split(",")) if found else None


def name_of(paths: Any) -> str:
    """Returns the normaliser of paths that a user has given. Raises BadInput."""
    known = isinstance(paths, list) and all(isinstance(path, str) and re.fullmatch(PATH, path) for path in paths)
    if not known or not 0 < len(paths) <= MOST_PATHS:
        raise errors.BadInput(
            f"paths of a contains search must be a list of 1 to {MOST_PATHS} paths",
            detail="A path has keys of letters, digits and _, with dots between them.",
            hint=HINT,
        )
    return f"contains-{','.join(sorted(set(paths)))}/1"


def holds(paths: tuple[Path, ...], place: Path) -> bool:
    """Tells whether a value at a place is at one of the paths, or below one."""
    return any(place[: len(path)] == path for path in paths)
