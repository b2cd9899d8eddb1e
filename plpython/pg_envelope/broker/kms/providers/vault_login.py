"""Logs the broker in at Vault or OpenBao, with AppRole or a token file. It renews the login and logs in again."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hvac
from hvac import exceptions

from pg_envelope import errors
from pg_envelope.broker.kms.providers.vault_errors import number, part, text, texts, translated
from pg_envelope.broker.settings.kms import AppRole, TokenFile
from pg_envelope.broker.system import clock, files

RENEW_AT = 0.5
LOGIN_PAUSE = 5.0
LONGEST_LOGIN_PAUSE = 60.0
# Tokens of Vault and OpenBao, service and batch. A secret_id is a UUID, or a text that a person chose.
WRAPPING_TOKEN = re.compile(r"(hv)?[sb]\.[A-Za-z0-9_-]{20,}")

Stamp = tuple[tuple[int, int, int], ...]
Report = Callable[[errors.EnvelopeError], None]


@dataclass(frozen=True)
class Token:
    """A client token; `life` in seconds, None for one that does not end."""

    text: str
    life: float | None
    renewable: bool
    since: float

    def left(self) -> float | None:
        return None if self.life is None else self.since + self.life - clock.now()

    def wants_renewal(self) -> bool:
        return self.life is not None and clock.now() > self.since + RENEW_AT * self.life

    def over(self) -> bool:
        left = self.left()
        return left is not None and left <= 0


class VaultLogin:
    """Holds the one token that all worker threads use. `report` hears of every login that failed."""

    def __init__(self, method: AppRole | TokenFile, timeout: float, report: Report) -> None:
        self._method = method
        self._timeout = timeout
        self._report = report
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._refused: _Refusal | None = None
        self._last_login = 0.0

    def token(self, client: hvac.Client) -> str:
        """Returns a token to use now. Logs in or renews when it is time. Raises as Provider says."""
        now = self._token
        if now is not None and not now.wants_renewal():
            return now.text
        # While one thread renews, the others go on with the token that is still good.
        if now is not None and not now.over() and self._lock.locked():
            return now.text
        with self._locked():
            return self._current(client).text

    def replace(self, client: hvac.Client, refused: str) -> str:
        """Returns another token after the KMS refused this one. Raises KmsDenied when the token is good and lacks the
        right.
        """
        with self._locked():
            if self._token is not None and self._token.text != refused:
                return self._token.text
            # This is not done at every refusal: a missing policy would cost a login, and a lease, per request.
            if clock.now() - self._last_login < LOGIN_PAUSE and self._is_good(client, refused):
                raise no_right()
            return self._log_in(client).text

    def seconds(self) -> float | None:
        return self._token.left() if self._token is not None else None

    def forget(self) -> None:
        self._token = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the login for one thread. No thread waits longer for another's login than for the KMS itself."""
        if not self._lock.acquire(timeout=self._timeout):
            raise errors.KmsUnavailable(detail="the login takes too long")
        try:
            yield
        finally:
            self._lock.release()

    def _current(self, client: hvac.Client) -> Token:
        now = self._token
        if now is None or now.over():
            return self._log_in(client)
        return self._renewed(client, now) if now.wants_renewal() else now

    def _renewed(self, client: hvac.Client, now: Token) -> Token:
        """Returns the token with a longer life, or another token. When neither can be had, this one is still good."""
        try:
            with translated():
                if now.renewable:
                    client.token = now.text
                    longer = _token_of(part(client.auth.token.renew_self(), "auth"))
                    # A token near its maximum life is renewed for ever shorter times. It is time for a new one.
                    if longer.life is None or now.life is None or longer.life > RENEW_AT * now.life:
                        self._token = longer
                        return longer
            return self._log_in(client)
        except errors.EnvelopeError:
            return now

    def _log_in(self, client: hvac.Client) -> Token:
        stamp = _stamp(self._method)
        if self._refused is not None and self._refused.holds(stamp):
            raise self._refused.error
        old = self._token
        try:
            self._token = self._ask(client)
        except (errors.KmsDenied, errors.KmsInvalid, errors.NotConfigured) as error:
            refusal = _denied(error)
            self._refused = _Refusal.after(self._refused, stamp, refusal)
            self._report(refusal)
            raise refusal from None
        self._refused = None
        self._last_login = clock.now()
        self._give_back(client, old)
        return self._token

    def _ask(self, client: hvac.Client) -> Token:
        return (
            _app_role(client, self._method) if isinstance(self._method, AppRole) else _token_file(client, self._method)
        )

    def _is_good(self, client: hvac.Client, token: str) -> bool:
        try:
            with translated():
                client.token = token
                client.auth.token.lookup_self()
        except errors.KmsDenied:
            return False
        return True

    def _give_back(self, client: hvac.Client, old: Token | None) -> None:
        """Revokes a token that is not needed any more. A token from a file belongs to others, and stays."""
        if old is None or old.over() or not isinstance(self._method, AppRole):
            return
        try:
            with translated():
                client.token = old.text
                client.auth.token.revoke_self()
        except errors.EnvelopeError:
            return


@dataclass(frozen=True)
class _Refusal:
    """A login that the KMS refused. It is not tried again for a while, since repeated failures lock a role out."""

    error: errors.KmsDenied
    stamp: Stamp
    until: float
    pause: float

    @classmethod
    def after(cls, before: _Refusal | None, stamp: Stamp, error: errors.KmsDenied) -> _Refusal:
        again = before is not None and before.stamp == stamp
        pause = min(2 * before.pause, LONGEST_LOGIN_PAUSE) if before is not None and again else LOGIN_PAUSE
        return cls(error, stamp, clock.now() + pause, pause)

    def holds(self, stamp: Stamp) -> bool:
        return stamp == self.stamp and clock.now() < self.until


def no_right() -> errors.KmsDenied:
    """Returns the error for a request that was refused although the login is good."""
    return errors.KmsDenied(
        detail="the login is good, but its policy does not allow this request",
        hint="Are transit_mount and kv_mount right? Run pg-envelope init again: it writes the policy anew.",
    )


def _denied(error: errors.EnvelopeError) -> errors.KmsDenied:
    """Returns `error` as a refused login. A file that cannot be used (NotConfigured) is the cause itself."""
    parts = (error.message, error.detail) if isinstance(error, errors.NotConfigured) else (error.detail,)
    detail = ": ".join(part for part in parts if part) or "the KMS says no more than: permission denied"
    hint = error.hint or "The broker's user must be able to read it."
    return errors.KmsDenied("the broker cannot log in to the KMS", detail=detail, hint=hint)


def _app_role(client: hvac.Client, method: AppRole) -> Token:
    role_id, secret_id = files.read_secret(method.role_id_file), files.read_secret(method.secret_id_file)
    with translated(), _explained(method, secret_id):
        client.token = ""
        answer = _approle(client, role_id, secret_id, method.mount)
        return _token_of(part(answer, "auth"))


def _approle(client: hvac.Client, role_id: str, secret_id: str, mount: str) -> object:
    return client.auth.approle.login(role_id, secret_id, use_token=False, mount_point=mount)


@contextmanager
def _explained(method: AppRole, secret_id: str) -> Iterator[None]:
    """Turns the KMS's refusal of a login into a cause that a person can do something about."""
    try:
        yield
    except exceptions.InvalidRequest as error:
        raise _refusal(method, secret_id, " ".join(texts(error)).lower()) from None
    except (exceptions.Forbidden, exceptions.InvalidPath) as error:
        if "namespace" in " ".join(texts(error)):
            raise
        raise errors.KmsDenied(
            detail=f"it takes no logins at auth/{method.mount}: there is no AppRole, or the role is locked for a while",
            hint="See mount in auth = { ... }, and namespace. After too many wrong logins, wait some minutes.",
        ) from None


def _refusal(method: AppRole, secret_id: str, said: str) -> errors.KmsDenied:
    if "cidr" in said:
        return errors.KmsDenied(
            detail="the role or the secret_id does not allow logins from this machine's address",
            hint="See secret_id_bound_cidrs and token_bound_cidrs of the role.",
        )
    if WRAPPING_TOKEN.match(secret_id):
        return errors.KmsDenied(
            detail=f"{method.secret_id_file} holds a token, probably a wrapped secret_id",
            hint="Unwrap it once, and put the result into the file: bao unwrap -field=secret_id TOKEN",
        )
    if "role" in said or "secret" in said:
        return errors.KmsDenied(
            detail="role_id or secret_id is wrong, or the secret_id is used up or expired",
            hint="Are both files of one role? Run pg-envelope init again, or make a new secret_id: "
            f"bao write -f auth/{method.mount}/role/ROLE/secret-id",
        )
    return errors.KmsDenied(detail="it refused the login as invalid")


def _token_file(client: hvac.Client, method: TokenFile) -> Token:
    text = files.read_secret(method.token_file)
    client.token = text
    try:
        with translated():
            found = part(client.auth.token.lookup_self(), "data")
    except errors.KmsDenied as error:
        if error.detail is not None:
            raise
        raise errors.KmsDenied(
            detail=f"the token in {method.token_file} is expired, revoked or no token of this KMS",
            hint="Put a new token into the file. The broker reads it again by itself.",
        ) from None
    life = None if found.get("expire_time") is None else float(number(found, "ttl"))
    return Token(text, life, found.get("renewable") is True, clock.now())


def _token_of(auth: dict[str, object]) -> Token:
    life = float(number(auth, "lease_duration")) or None
    return Token(text(auth, "client_token"), life, auth.get("renewable") is True, clock.now())


def _stamp(method: AppRole | TokenFile) -> Stamp:
    paths = (method.role_id_file, method.secret_id_file) if isinstance(method, AppRole) else (method.token_file,)
    return tuple(_file_stamp(path) for path in paths)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
