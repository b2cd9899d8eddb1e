"""What event triggers call around each DDL command, and the exchange of names by hand."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.tables.follow import follow
from pg_envelope.backend.tables.types import Types


class DdlRoutines:
    """The state of an exchange is in the database: see Exchanges."""

    def __init__(self, tools: AdminTools) -> None:
        plain, alone, unless_alone = tools.plain, tools.alone, tools.unless_alone
        self._host = tools.host
        self._exchanges = tools.exchanges()
        self.follow = plain(unless_alone(self._follow))
        self.begin_command = plain(unless_alone(self._exchanges.begin_command))
        self.end_command = plain(unless_alone(self._exchanges.end))
        self.begin_ddl = plain(alone(self._begin_ddl))
        types = Types(tools.host)
        self.type_changing = plain(types.changing)
        self.type_changed = plain(types.changed)

    def _follow(self, view: int, touched: int, attnum: int) -> None:
        follow(self._host, view, touched, attnum)

    def _begin_ddl(self, rel: str | None) -> None:
        if rel is None:
            raise errors.BadInput("begin_ddl() needs a table")
        self._exchanges.begin(self._host.relation(rel))
