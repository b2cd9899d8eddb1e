"""Holds the package's state in one session of PostgreSQL: the bootstrap puts it into GD, and SQL functions call it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pg_envelope.backend import hot, location
from pg_envelope.backend.asker import Asker
from pg_envelope.backend.authority import Authority
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.faults import Faults
from pg_envelope.backend.guard import Guard, late
from pg_envelope.backend.host import Host, PinnedHost
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.prefetch import Prefetch
from pg_envelope.backend.refusals import Refusals
from pg_envelope.backend.scopes import Scopes
from pg_envelope.backend.secrets import SessionSecrets
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.backend.values import Values
from pg_envelope.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pg_envelope.backend.admin.admin import Admin
    from pg_envelope.backend.adoption.admin import AdoptionAdmin
    from pg_envelope.backend.adoption.reading import Legacy
    from pg_envelope.backend.clients import Clients
    from pg_envelope.backend.ddl.begin import Exchanges
    from pg_envelope.backend.lifecycle.tenants import Tenants
    from pg_envelope.backend.masks.session import Masks
    from pg_envelope.backend.passwords import Passwords
    from pg_envelope.backend.reads import Reads
    from pg_envelope.backend.search.tokens import Tokens
    from pg_envelope.backend.secret_admin import SecretAdmin
    from pg_envelope.backend.tables.canary_admin import CanaryAdmin
    from pg_envelope.backend.writes import Writes


class Session:
    """One attribute for each SQL function that handles values. The functions for administration are in `admin`."""

    def __init__(self, plpy: Any) -> None:
        self.host = Host(plpy)
        self.pinned = PinnedHost(plpy)
        self.guard = Guard(self.host)
        place = self.guard.plain(location.locate)()
        self.link = Link(place, self.host.interrupts, Asker(self.host).who)
        self.guard.tell_errors(Refusals(self.link).tell)
        self.loader = Loader(self.host, self.link)
        self.authority = Authority(self.host)
        epoch = Epoch(place.epoch, place.broker_uids)
        session_keys = self._session_keys = SessionKeys(epoch, self.loader.load, self.loader.replayed.last)
        self.scopes = Scopes(self.host, self.link, self.loader.ahead.made, self.loader.budget)
        self._epoch = epoch
        self.values = Values(session_keys, self.authority, self.scopes, lambda: self.reads, lambda: self.masks)
        self.faults = Faults(self.values)
        self._prefetch = Prefetch(self.host, self.loader, session_keys)
        self.prefetch = self.guard.plain(self._prefetch.keys)
        self.secrets = SessionSecrets(self.host, self.authority, session_keys, epoch, self.values.note_by_right)
        self._offer(self.values)
        self.decrypt_text = hot.decrypt_text(session_keys, epoch, self.guard.plain(self.values.decrypt_text))
        by_right = hot.decrypt_text(session_keys, epoch, self.guard.plain(self.values.decrypt_text_by_right))
        careful_as_role = self.guard.plain(self.values.decrypt_text_as_role)
        shown = self.guard.plain(self.values.shown_by_right)
        self.decrypt_text_as_role = hot.decrypt_text_as_role(self.values.right, by_right, shown, careful_as_role)
        self.encrypt_text = hot.encrypt_text(session_keys, epoch, self.guard.text_in(self.values.encrypt))
        self._offer_secrets(self.secrets)

    def _offer(self, values: Values) -> None:
        plain, text_in, text_out = self.guard.plain, self.guard.text_in, self.guard.text_out
        self.decrypt_bytea = plain(values.decrypt)
        self.decrypt_bytea_audited = plain(values.decrypt_audited)
        self.encrypt_bytea = plain(values.encrypt)
        self.reseal = plain(values.reseal)
        self.no_value = plain(values.no_value)
        self.fault_as_role = plain(self.faults.as_role)
        self.decrypt_bytea_as_role = plain(values.decrypt_as_role)
        self.encrypt_text_as_role = text_in(values.encrypt_as_role)
        self.encrypt_bytea_as_role = plain(values.encrypt_as_role)
        self.decrypt_named_text = text_out(values.decrypt_named)
        self.decrypt_named_bytea = plain(values.decrypt_named)
        self.encrypt_named_text = text_in(values.encrypt_named)
        self.encrypt_named_bytea = plain(values.encrypt_named)
        self.run_step = plain(self.host.run_step)

    def _offer_secrets(self, secrets: SessionSecrets) -> None:
        plain = self.guard.plain
        self.secret_bytea = plain(secrets.get)
        self.secret_text = plain(secrets.text)
        self.named_only_bytea = plain(secrets.named_only)
        self.named_only_text = plain(secrets.named_only_text)

    def forget_rights(self) -> None:
        """Called when this session takes a grant of a named key away."""
        self.authority.forget()
        self.secrets.forget()

    @late
    def admin(self) -> Admin:
        """The functions for DBAs, by theme. Each theme is imported at its first use, which keeps a new connection's
        first read quick.
        """
        from pg_envelope.backend.admin.admin import Admin
        from pg_envelope.backend.admin.tools import AdminTools

        fetch = self._prefetch.of_texts
        return Admin(AdminTools(self.pinned, self._exchanges, self.guard, self.link, lambda: self.masks, fetch))

    @property
    def changes_tables(self) -> bool:
        """Whether the package itself is changing a table, so that nothing has to follow its commands."""
        return "admin" in vars(self) and self.admin.tools.changes_tables

    def _exchanges(self) -> Exchanges:
        from pg_envelope.backend.ddl.begin import Exchanges

        return Exchanges(self.pinned, self.host)

    @late
    def writes(self) -> Writes:
        """The functions for triggers. They are imported at the first write."""
        from pg_envelope.backend.writes import Writes

        return Writes(self.guard, self.values, self.loader)

    @late
    def clients(self) -> Clients:
        """The functions for clients that seal and open outside the server."""
        from pg_envelope.backend.clients import Clients

        return Clients(self.guard, self.host, self.link, self.loader)

    @late
    def search(self) -> Tokens:
        """The functions for search columns. They are imported at the first search, or the first write of a
        search column.
        """
        from pg_envelope.backend.search.tokens import Tokens

        return Tokens(self.guard, self._session_keys, self._epoch, self.authority, self.loader)

    @late
    def reads(self) -> Reads:
        """The session's half of the ledger of reads. It is imported at the first read of an audited column."""
        from pg_envelope.backend.reads import Reads

        return Reads(self.host, self.link, self._epoch)

    @cached_property
    def decrypt_text_audited(self) -> hot.Decrypt:
        careful = self.guard.plain(self.values.decrypt_text_audited)
        place = self.guard.plain(self.reads.place)
        return hot.decrypt_text_audited(self._session_keys, self._epoch, self.reads, place, careful)

    @late
    def legacy(self) -> Legacy:
        """The functions for columns that are being adopted. They are imported at the first use of such a column."""
        from pg_envelope.backend.adoption.reading import Legacy

        return Legacy(self.host, self.guard, self.values, self.loader, self._session_keys, self._epoch)

    @cached_property
    def adopted_draft(self) -> Callable[..., bytes | None]:
        """The function by which a guard opens what an application has encrypted by itself."""
        return self.guard.plain(self._adopted_draft)

    def _adopted_draft(self, draft: bytes | None, seal: bytes | None, parts: str | None = None) -> bytes | None:
        return self.writes.redraft(draft, lambda content: self.legacy.written(content, parts, seal))

    @late
    def adoption(self) -> AdoptionAdmin:
        """The functions of adoption for DBAs."""
        from pg_envelope.backend.adoption.admin import AdoptionAdmin

        return AdoptionAdmin(self.pinned, self.guard, self.link, self.values, self._session_keys, self.admin.tools)

    @late
    def masks(self) -> Masks:
        """What roles see of masked columns. It is imported at the first read of a masked column."""
        from pg_envelope.backend.masks.session import Masks

        return Masks(self.host, self._epoch, self._session_keys)

    @cached_property
    def decrypt_text_masked(self) -> Callable[..., str | None]:
        found, shown = self.masks.found, self.guard.plain(self.masks.shown)
        careful = hot.decrypt_masked(self.decrypt_text, lambda: self.decrypt_text_audited, found, shown)
        return hot.decrypt_text_masked(self._session_keys, self._epoch, found, careful)

    @cached_property
    def decrypt_bytea_masked(self) -> Callable[..., bytes | None]:
        found, shown = self.masks.found, self.guard.plain(self.masks.shown)
        return hot.decrypt_masked(self.decrypt_bytea, lambda: self.decrypt_bytea_audited, found, shown)

    def shown_as(self, value: bytes | None, token: bytes | None, row_key: str, field: str | None) -> list[str | None]:
        """Returns all that roles may see of a value, for triggers."""
        return self.guard.plain(self.masks.every)(self.decrypt_text_masked(value, token, row_key), field, row_key)

    @late
    def canaries(self) -> CanaryAdmin:
        """The functions for canaries."""
        from pg_envelope.backend.tables.canary_admin import CanaryAdmin

        return CanaryAdmin(self.pinned, self.guard, self.link, self.values, self.admin.tools)

    @late
    def secret_admin(self) -> SecretAdmin:
        from pg_envelope.backend.keys import Keys
        from pg_envelope.backend.secret_admin import SecretAdmin

        keys = Keys(self.pinned, self.link)
        return SecretAdmin(self.pinned, self.guard, keys, self.values, self.secrets)

    @late
    def tenants(self) -> Tenants:
        from pg_envelope.backend.lifecycle.tenants import Tenants

        return Tenants(self.pinned, self.guard, self.link)

    @late
    def passwords(self) -> Passwords:
        from pg_envelope.backend.passwords import Passwords

        return Passwords(self.pinned, self.guard)
