"""The package as one session of PostgreSQL has it: what bootstrap puts into GD, and SQL functions call."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pg_envelope.backend import location
from pg_envelope.backend.authority import Authority
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host
from pg_envelope.backend.keyring import Keyring
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.values import Values

if TYPE_CHECKING:
    from pg_envelope.backend.admin import Admin


class Session:
    """One attribute per SQL function that handles values; what administers is in `admin`."""

    def __init__(self, plpy: Any) -> None:
        self.host = Host(plpy)
        self.guard = Guard(self.host)
        place = self.guard.plain(location.locate)()
        self.link = Link(place, self.host.interrupts)
        self.loader = Loader(self.host, self.link)
        self.authority = Authority(self.host)
        self._offer(Values(Keyring(Epoch(place.epoch), self.loader.load), self.authority))

    def _offer(self, values: Values) -> None:
        plain, text_in, text_out = self.guard.plain, self.guard.text_in, self.guard.text_out
        self.decrypt_text = text_out(values.decrypt)
        self.decrypt_bytea = plain(values.decrypt)
        self.encrypt_text = text_in(values.encrypt)
        self.encrypt_bytea = plain(values.encrypt)
        self.reseal = plain(values.reseal)
        self.decrypt_text_as_role = text_out(values.decrypt_as_role)
        self.decrypt_bytea_as_role = plain(values.decrypt_as_role)
        self.encrypt_text_as_role = text_in(values.encrypt_as_role)
        self.encrypt_bytea_as_role = plain(values.encrypt_as_role)
        self.decrypt_named_text = text_out(values.decrypt_named)
        self.decrypt_named_bytea = plain(values.decrypt_named)
        self.encrypt_named_text = text_in(values.encrypt_named)
        self.encrypt_named_bytea = plain(values.encrypt_named)
        self.load_key = plain(self.loader.load_pending)
        self.authorise = plain(self.authority.authorise_pending)

    @cached_property
    def admin(self) -> Admin:
        """What DBAs call; imported when first used, to keep a new connection's first read quick."""
        from pg_envelope.backend.admin import Admin

        return Admin(self.host, self.guard, self.link, self.loader)
