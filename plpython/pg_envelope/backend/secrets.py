"""Secrets by name, for pgcrypto's functions: the casts of envelope.secret(), and the guard of literal keys."""

from __future__ import annotations

from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.audited import AuditedKey
from pg_envelope.backend.authority import MAX_AGE_SECONDS, Authority
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.guard import text
from pg_envelope.backend.host import Host
from pg_envelope.backend.server import server
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.backend.values import Note
from pg_envelope.envelope import HEADER_BYTES
from pg_envelope.typed import NamedTuple

FIND = """
SELECT s.version, s.sealed FROM envelope_private.key k JOIN envelope_private.secret s USING (key_uuid)
WHERE k.name = $1 AND s.version = coalesce($2, s.version) ORDER BY s.version DESC LIMIT 1"""

Moment = tuple[int, int]
Given = dict[tuple[int, bytes], Moment]
Wanted = tuple[str, int | None]


def context(version: int) -> str:
    """Returns the context of one version of a secret. An envelope of one version does not open in the place of
    another.
    """
    return f"secret {version}"


class OpenSecret(NamedTuple):
    """A secret in the clear, with the role and the time for which it stays open."""

    user: int
    statement: int
    until: float
    epoch: bytes
    secret: bytes
    text: str | None


class SessionSecrets:
    """Looks secrets up, by the right of the current role.

    An opened secret serves the same role in the same statement and revocation epoch, for a second at most. So the
    check of the right comes before the cache, and SET ROLE and REVOKE count from the next statement.
    """

    def __init__(
        self, host: Host, authority: Authority, session_keys: SessionKeys, epoch: Epoch, note_read: Note
    ) -> None:
        """`note_read` is called before the secret of an audited key is opened."""
        self._host = host
        self._note_read = note_read
        self._right = authority.right
        self._key = session_keys.get
        self._epoch = epoch.current
        self._opened: dict[Wanted, OpenSecret] = {}
        self._given: Given = {}

    def get(self, name: str | None, version: int | None) -> bytes | None:
        """A secret's bytes; None for no name. Raises NotPermitted, KeyNotFound, or what loading a key raises."""
        return None if name is None else self._get((name, version)).secret

    def text(self, name: str | None, version: int | None) -> str | None:
        """A secret as text. Raises BadInput when it is none."""
        if name is None:
            return None
        text = self._get((name, version)).text
        if text is None:
            raise errors.BadInput("the secret is not text", hint="It holds other bytes; use it where a key is a bytea.")
        return text

    def _get(self, wanted: Wanted) -> OpenSecret:
        opened = self._opened.get(wanted)
        if (
            opened is not None
            and opened.statement == server().GetCurrentStatementStartTimestamp()
            and opened.user == server().GetUserId()
            and opened.until > monotonic()
            and opened.epoch == self._epoch()
        ):
            return opened
        return self._open(wanted)

    def forget(self) -> None:
        """Makes the next use look again, after a change in this session."""
        self._opened.clear()

    def _open(self, wanted: Wanted) -> OpenSecret:
        right = self._right("name", wanted[0])
        version, sealed = self._load(wanted)
        key = self._key(right.capability + sealed[:HEADER_BYTES])
        if type(key) is AuditedKey:
            self._note_read(key, right.capability, wanted[0])
        secret = key.open(sealed, context(version).encode())
        if secret is None:
            raise errors.KeyDestroyed
        statement, until = server().GetCurrentStatementStartTimestamp(), min(key.expires, monotonic() + MAX_AGE_SECONDS)
        self._opened = {other: kept for other, kept in self._opened.items() if kept.statement == statement}
        self._opened[wanted] = opened = OpenSecret(
            server().GetUserId(), statement, until, key.epoch, secret, _text(secret)
        )
        self._note(secret)
        return opened

    def _load(self, wanted: Wanted) -> tuple[int, bytes]:
        row = self._host.as_owner(lambda: self._host.row(FIND, ["text", "int4"], wanted))
        if row is None:
            raise errors.KeyNotFound(
                "there is no secret of this name and version", hint="envelope.secrets lists the secrets."
            )
        return row["version"], row["sealed"]

    def _now(self) -> Moment:
        """Returns statement and transaction. Both are needed: a cursor's FETCHes share the first, a procedure's
        parts the second.
        """
        return server().GetCurrentStatementStartTimestamp(), server().GetCurrentTransactionStartTimestamp()

    def _note(self, secret: bytes) -> None:
        now = self._now()
        self._given = {old: then for old, then in self._given.items() if _together(then, now)}
        self._given[server().GetUserId(), secret] = now

    def named_only(self, value: bytes, may_be_empty: bool) -> bytes:
        """Returns the value if this statement or transaction got it by name, as the current role. Raises
        NotPermitted.
        """
        from hmac import compare_digest  # 4 ms, which every new connection would pay

        now, user = self._now(), server().GetUserId()
        given = [secret for (who, secret), then in self._given.items() if who == user and _together(then, now)]
        if any(compare_digest(value, secret) for secret in given) or (may_be_empty and not value):
            return value
        raise errors.NotPermitted(
            "literal keys are forbidden in this database",
            hint="Name the key instead: envelope.secret('NAME'). See envelope.forbid_literal_keys().",
        )

    def named_only_text(self, value: str, may_be_empty: bool) -> str:
        self.named_only(value.encode(), may_be_empty)
        return value


def _together(then: Moment, now: Moment) -> bool:
    return then[0] == now[0] or then[1] == now[1]


def _text(secret: bytes) -> str | None:
    """Returns the secret's text, or None when it is not text."""
    try:
        return text(secret)
    except (UnicodeDecodeError, errors.InvalidEnvelope):
        return None
