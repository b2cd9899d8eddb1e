"""Refuses keys of other environments. The broker takes over others only as configured."""

from __future__ import annotations

from uuid import UUID

from pg_envelope import errors
from pg_envelope.broker.settings.config import BrokerSettings


def check_environment(asked: str | None, settings: BrokerSettings) -> None:
    """`asked` is the environment that the database remembers for its keys. Raises UnwrapFailed, with the reason.

    The context of each wrap keeps environments apart. This check adds the reason, and prevents a new key.
    """
    if asked is None or asked == settings.environment:
        return
    raise errors.UnwrapFailed(
        "the keys of this database belong to another environment",
        detail=f"its keys: {asked}; this broker: {settings.environment}",
        hint="Nothing is lost. For a copy that is to stay here: pg-envelope rekey --from ... (docs/environments.md).",
    )


def check_origin(origin: tuple[str, UUID], settings: BrokerSettings) -> None:
    """Raises NotPermitted for a copy within this environment: it takes nothing from another one."""
    if origin[0] not in (settings.environment, *settings.rekey_from):
        raise errors.NotPermitted(
            "this broker takes no keys over from that environment",
            detail=f"environment {origin[0]}",
            hint="Set rekey_from under [broker] for as long as it takes, and restart it: docs/environments.md.",
        )
