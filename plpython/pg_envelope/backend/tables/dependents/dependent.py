"""What every dependent can do: step aside, come back, and be complete again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext

from pg_envelope.backend.host import Host
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.tables import lent
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import dataclass
from pg_envelope.typed import ClassVar

UNCHECKED = "SET LOCAL check_function_bodies = off"


@dataclass(frozen=True)
class Dependent(ABC):
    """An object that uses a relation, as the catalogs tell it before anything is touched.

    `owner` is the OID of the role whose text it holds. `text` brings it back. `needs_create`: PostgreSQL asks for the
    right to create in the schema.
    """

    what: str
    owner: int
    schema: str
    text: str
    needs_create: ClassVar[bool] = True

    @property
    @abstractmethod
    def leaves(self) -> str:
        """The statement after which it uses the relation no more."""

    def away(self, host: Host) -> None:
        host.run(self.leaves)

    def back(self, host: Host) -> None:
        """Raises PostgreSQL's error for a text that the new relation does not serve."""
        self.as_owner(host, self.text)

    def complete(self, _host: Host) -> None:
        """Does what needs all dependents back in place."""
        return

    def as_owner(self, host: Host, statement: str, made: int = 0) -> None:
        """Runs a statement with text of the owner as that role, because reading it can run code of that role.

        The statement makes `made` objects in the dependent's schema.
        """
        with lent.create(host, self.owner, self.schema, made) if self.needs_create else nullcontext():
            AsOwner(host, self.owner).run(statement)

    def as_owner_unchecked(self, host: Host, function: str, made: int = 0) -> None:
        """Makes a function whose text is not looked at: its names are not those of the search_path of now."""
        with settings_kept():
            host.setting(UNCHECKED)
            self.as_owner(host, function, made)
