"""Serves the triggers of protected tables: drafts of envelopes, rows met before, and values that may stay unread."""

from __future__ import annotations

import os
from collections.abc import Callable

from pg_envelope import envelope, errors
from pg_envelope.aeads import AESGCM
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.marks import Marks
from pg_envelope.backend.session_keys import CAPABILITY_BYTES
from pg_envelope.backend.soft_inserts import SoftInserts
from pg_envelope.backend.statement import Statement, calling
from pg_envelope.backend.values import Values
from pg_envelope.suites import DEFAULT, KEY_BYTES, REFUSALS

# Key id 0 names no key: FORMAT.md section 1.5.
DRAFT = envelope.header(DEFAULT, padded=False, key_id=0)
NONCE_BYTES = 12
BODY_AT = len(DRAFT) + NONCE_BYTES
# So many statements of one session can be under way at once, one inside the other.
MOST_STATEMENTS = 16
MOST_ROWS = 1_000_000


class Writes:
    """One attribute per SQL function."""

    def __init__(self, guard: Guard, values: Values, loader: Loader) -> None:
        plain, drafts, rows, unread, soft = guard.plain, Drafts(values), Rows(), Unread(loader), SoftInserts()
        values.passes = unread.passes
        self.draft_text = guard.text_in(drafts.draft)
        self.draft_bytea = plain(drafts.draft)
        self.clear_text = guard.text_out(drafts.clear)
        self.clear_bytea = plain(drafts.clear)
        self.seal_draft = plain(drafts.seal)
        self.rebind = plain(drafts.rebind)
        self.redraft = drafts.redraft
        self.opens = plain(drafts.opens)
        self.fits = plain(drafts.fits)
        self.reading = plain(rows.reading)
        self.unreadable = plain(unread.unreadable)
        self.note_update = plain(unread.note)
        marks = Marks()
        self.mark = plain(marks.mark)
        self.marked = plain(marks.marked)
        self.note_insert = plain(soft.note)
        self.inserts_softly = plain(soft.is_soft)


class Drafts:
    """Makes and reads drafts: values on their way from the view's trigger to the base table's guard, which knows
    the row key.

    A draft is encrypted under a key that only this session has. So a trigger in between sees what it would see of
    any envelope.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._aead = AESGCM(os.urandom(KEY_BYTES))

    def draft(self, content: bytes | None) -> bytes | None:
        """Returns a draft, which takes the place of an envelope until the guard seals the value. No key of the
        catalog opens a draft.
        """
        if content is None:
            return None
        nonce = os.urandom(NONCE_BYTES)
        return DRAFT + nonce + self._aead.encrypt(nonce, content, DRAFT)

    def seal(
        self, draft: bytes | None, seal: bytes | None, row_key: str | None, scope: str | None = None
    ) -> bytes | None:
        """Turns a draft into an envelope. Raises InvalidEnvelope for a draft of another session, and what
        Values.encrypt raises.
        """
        return self._values.encrypt(self.clear(draft), seal, row_key, scope)

    def redraft(self, draft: bytes | None, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Returns a draft of what `change` makes of a draft's content."""
        return self.draft(change(self.clear(draft)))

    def clear(self, draft: bytes | None) -> bytes | None:
        """Returns the content of a draft of this session. Raises InvalidEnvelope."""
        if draft is None:
            return None
        try:
            return self._aead.decrypt(draft[len(DRAFT) : BODY_AT], draft[BODY_AT:], DRAFT)
        except REFUSALS:
            raise errors.InvalidEnvelope from None

    def opens(self, value: bytes | None, seal: bytes | None, row_key: str | None) -> bool:
        """Tells whether an envelope opens in its place. While its key is suspended, the answer is yes: it may
        open later.
        """
        try:
            self._values.opened(value, seal and seal[:CAPABILITY_BYTES], row_key)
        except errors.KeySuspended:
            return True
        except (errors.InvalidEnvelope, errors.KeyDestroyed):
            return False
        return value is not None

    def fits(self, value: bytes | None, seal: bytes | None, row_key: str | None) -> bool:
        """Tells the same as `opens`, and is true under a destroyed key, where nobody can tell."""
        try:
            return self._values.opened(value, seal and seal[:CAPABILITY_BYTES], row_key) is not None
        except (errors.KeySuspended, errors.KeyDestroyed):
            return True
        except errors.InvalidEnvelope:
            return False

    def rebind(
        self,
        value: bytes | None,
        seal: bytes | None,
        old_key: str | None,
        new_key: str | None,
        scope: str | None = None,
    ) -> bytes | None:
        """Seals the same value for another row key. A value that did not open before stays as it is, so nothing
        more is lost.
        """
        if value is None or seal is None:
            return value
        try:
            content = self._values.opened(value, seal[:CAPABILITY_BYTES], old_key)
        except (errors.InvalidEnvelope, errors.KeyDestroyed):
            return value
        return value if content is None else self._values.encrypt(content, seal, new_key, scope)


class Rows:
    """Remembers the row keys that the statements under way have met."""

    def __init__(self) -> None:
        self._met: dict[tuple[int, Statement], set[str]] = {}

    def reading(self, table: int, row_key: str) -> str | None:
        """Returns the oldest transaction unfinished for the calling statement, or None when the statement has
        met the row before.
        """
        statement, oldest = calling()
        met = self._met.get((table, statement))
        if met is None:
            met = self._begin(table, statement)
        if row_key in met:
            return None
        if len(met) < MOST_ROWS:
            met.add(row_key)
        return str(oldest)

    def _begin(self, table: int, statement: Statement) -> set[str]:
        if len(self._met) >= MOST_STATEMENTS:
            del self._met[next(iter(self._met))]
        met = self._met[table, statement] = set()
        return met


class Unread:
    """Lets an UPDATE pass over values unread: those that it replaces, and those of erased tenants and subjects.

    In that statement a value that does not open reads as NULL, and is noted. The row trigger asks which values of
    its row were noted. If others are left at the end, an expression of the user has read such a value, and the
    statement fails.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._replaced_in: Statement | None = None
        self._erased_in: Statement | None = None
        self._noted: list[str] = []
        self._count = 0

    def note(self, table: int, what: str) -> None:  # noqa: ARG002 -- without an argument PostgreSQL would ask once
        """Called by the triggers of an UPDATE: `mend` before one that replaces values, `mended` after it,
        `erased` before any.
        """
        known = {"mend": self.mend_begins, "mended": self.mend_ends, "erased": self.erased_pass}
        if what not in known:
            raise errors.BadInput("only the triggers of a protected table call this function")
        known[what]()

    def mend_begins(self) -> None:
        self._replaced_in, _ = calling()
        self._noted, self._count = [], 0

    def erased_pass(self) -> None:
        self._erased_in, _ = calling()

    def mend_ends(self) -> None:
        """Raises InvalidEnvelope when the statement has read a bad value that it does not replace."""
        statement, _ = calling()
        if statement == self._replaced_in:
            self._replaced_in = None
            if self._count:
                raise errors.InvalidEnvelope

    def passes(self, error: errors.EnvelopeError, capability: bytes) -> bool:
        """Tells whether the calling statement may read NULL in the place of a value that raised `error`."""
        if self._replaced_in is None and self._erased_in is None:
            return False
        statement, _ = calling()
        if statement == self._replaced_in:
            self._noted.append(self._loader.field_of(capability))
            self._count += 1
            return True
        return statement == self._erased_in and isinstance(error, errors.KeyDestroyed)

    def unreadable(self, table: int) -> list[str]:  # noqa: ARG002 -- without an argument PostgreSQL would ask once
        """Returns the fields, by uuid, that did not open in the row at hand."""
        statement, _ = calling()
        if statement != self._replaced_in:
            return []
        noted = list(dict.fromkeys(self._noted))
        self._count -= len(noted)
        self._noted = []
        return noted
