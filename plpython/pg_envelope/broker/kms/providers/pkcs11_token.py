"""Keeps a session with an HSM's token: login, one caller at a time, and a new session after the token was lost.

python-pkcs11 initialises a module without its own locking, so all calls into one module stand behind one lock.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11 import exceptions

from pg_envelope import errors
from pg_envelope.broker.settings.kms import Pkcs11Settings as Settings
from pg_envelope.broker.system import files

T = TypeVar("T")
Stamp = tuple[int, int, int]

BAD_PIN: dict[type[exceptions.PKCS11Error], str] = {
    exceptions.PinIncorrect: "the PIN in pin_file is wrong",
    exceptions.PinInvalid: "the PIN in pin_file has characters that the token does not take",
    exceptions.PinLenRange: "the PIN in pin_file is too short or too long for the token",
    exceptions.PinLocked: "the PIN is locked, after too many wrong ones",
    exceptions.PinExpired: "the PIN has expired",
    exceptions.UserPinNotInitialized: "the token has no user PIN yet",
}
REFUSED = (
    exceptions.AttributeReadOnly,
    exceptions.FunctionRejected,
    exceptions.MechanismInvalid,
    exceptions.MechanismParamInvalid,
    exceptions.FunctionNotSupported,
    exceptions.TokenWriteProtected,
)

_locks: dict[str, threading.Lock] = {}


class Pkcs11Token:
    """The token that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Raises NotConfigured when others could replace the module, because its code runs in the broker."""
        _refuse_foreign_code(settings.module)
        self._settings = settings
        self._lock = _locks.setdefault(str(settings.module), threading.Lock())
        self._session: Any = None
        self._refused: Stamp | None = None

    def run(self, work: Callable[[Any], T]) -> T:
        """Runs `work` with a session, and once more with a new one when the first was lost."""
        with self._locked():
            if self._session is not None:
                try:
                    return work(self._session)
                except (exceptions.PKCS11Error, errors.KekUnknown):
                    # To a session whose token was removed, some modules show an empty token.
                    self._forget()
            with self._translated():
                self._session = self._open()
                return work(self._session)

    def writing(self, work: Callable[[Any], T]) -> T:
        """Runs `work` with a session that may change the token. It is not repeated."""
        with self._locked(), self._translated():
            self._session = self._session or self._open()
            session = self._session.token.open(rw=True)
            try:
                return work(session)
            finally:
                session.close()

    def close(self) -> None:
        # A module that hangs must not keep the broker from ending.
        with suppress(errors.KmsUnavailable), self._locked():
            self._forget()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the module for one caller. No thread waits for a module that hangs."""
        if not self._lock.acquire(timeout=self._settings.timeout_ms / 1000):
            raise errors.KmsUnavailable(detail="the HSM is busy, or hangs")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Every exception of the module becomes an EnvelopeError, and the session is given up."""
        try:
            yield
        except REFUSED:
            raise errors.KmsDenied(detail="the HSM does not allow it, or does not know AES-GCM") from None
        except exceptions.NoSuchToken:
            raise errors.KmsUnavailable(detail="there is no token of this label: removed, or a wrong label") from None
        except exceptions.PKCS11Error as error:
            self._forget()
            raise errors.KmsUnavailable(detail=f"the HSM failed ({type(error).__name__})") from None

    def _open(self) -> Any:
        """Returns a session that is logged in.

        After a loss the module may have to start anew to see the token again.
        """
        module = pkcs11.lib(str(self._settings.module))
        try:
            return self._log_in(module.get_token(token_label=self._settings.token))
        except exceptions.MultipleTokensReturned:
            raise errors.KmsDenied(detail="more than one token has this label") from None
        except exceptions.PKCS11Error:
            module.reinitialize()
            return self._log_in(module.get_token(token_label=self._settings.token))

    def _log_in(self, token: Any) -> Any:
        stamp = _stamp(self._settings.pin_file)
        # A PIN is tried once: a few wrong ones lock the token.
        if self._refused == stamp:
            raise _denied("the PIN was refused; it is not tried again until pin_file changes")
        _keep_last_try(token)
        try:
            return token.open(user_pin=files.read_secret(self._settings.pin_file))
        except exceptions.UserAlreadyLoggedIn:
            return token.open()
        except tuple(BAD_PIN) as error:
            self._refused = stamp
            raise _denied(BAD_PIN[type(error)]) from None
        except errors.NotConfigured as error:
            raise _denied(": ".join(filter(None, (error.message, error.detail)))) from None

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(exceptions.PKCS11Error):
                session.close()


def _keep_last_try(token: Any) -> None:
    """Refuses the last try of a PIN: a wrong PIN in a file must not lock a token for good. The last try is for a
    person.
    """
    if token.flags & pkcs11.TokenFlag.USER_PIN_LOCKED:
        raise _denied(BAD_PIN[exceptions.PinLocked])
    if token.flags & pkcs11.TokenFlag.USER_PIN_FINAL_TRY:
        raise _denied("one try is left before the PIN is locked; log in once with the HSM's own tool, which resets it")


def _denied(detail: str) -> errors.KmsDenied:
    return errors.KmsDenied("the broker cannot log in to the KMS", detail=detail)


def _refuse_foreign_code(module: Path) -> None:
    try:
        found = os.stat(module)
    except OSError as error:
        raise errors.NotConfigured(f"cannot read the module {module}", detail=error.strerror) from None
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        raise errors.NotConfigured(
            f"the module {module} could be replaced by others",
            hint="It must belong to the broker's user or root, and be writable by its owner only.",
        )


def _stamp(path: Path) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
