"""Knows a server's files: where they are, and what each one holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pg_envelope_client.problems import Problem
from pg_envelope_client.residue import queries

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession

# 16384.1 and 16384_fsm belong to 16384.
PART = re.compile(r"(_fsm|_vm|_init)?(\.\d+)?$")


@dataclass(frozen=True)
class ServerFiles:
    """The folders of a server, and its relations by the paths of their files."""

    data: Path
    others: tuple[Path, ...]
    relations: dict[str, str]

    @classmethod
    def of(cls, server: ServerSession) -> ServerFiles:
        """Raises Problem when they cannot be read here."""
        place = server.rows(queries.PLACES)[0]
        data = Path(place["data"])
        try:
            (data / "PG_VERSION").read_bytes()
        except OSError as error:
            raise Problem(
                f"the server's data directory {data} cannot be read here",
                detail=error.strerror,
                hint="Run the command on the server's machine, as its operating-system user or as root.",
            ) from None
        named = {row["path"]: row["name"] for row in server.rows(queries.RELATIONS)}
        log = data / place["log"]
        outside = [data / "pg_wal", log, *map(Path, place["tablespaces"])]
        others = {path.resolve() for path in outside if path.exists()} - {data.resolve()}
        return cls(data.resolve(), tuple(sorted(path for path in others if data.resolve() not in path.parents)), named)

    @property
    def roots(self) -> list[Path]:
        return [self.data, *self.others]

    def kind(self, path: Path) -> tuple[str, str]:
        """Returns the kind of a file, and its name or that of its relation."""
        inside = self._inside(path)
        if "pgsql_tmp" in inside:
            return "temporary file", inside
        if inside.startswith("pg_wal/") or path.parent.name == "pg_wal":
            return "WAL", path.name
        if inside.startswith(("pg_stat/", "pg_stat_tmp/")):
            return "statistics file", inside
        if inside.startswith(("base/", "global/", "pg_tblspc/")):
            stem = PART.sub("", inside)
            return "relation", self.relations.get(stem, f"{stem} (dropped, or another database)")
        return "file", inside or str(path)

    def _inside(self, path: Path) -> str:
        """Returns the path as the server names it, below its data directory, or "" for a file elsewhere."""
        if self.data in path.parents:
            return str(path.relative_to(self.data))
        links = (self.data / "pg_tblspc").glob("*")
        found = next((link for link in links if link.resolve() in path.parents), None)
        return str(Path("pg_tblspc", found.name, path.relative_to(found.resolve()))) if found else ""
