"""Uses pgsodium as its users do: preloaded, keys by uuid, columns labelled, read through the decrypting view."""

from __future__ import annotations

from pathlib import Path

from stack.postgres import pg_config

# pgsodium asks a program for the server's key. The benchmark's key is no secret.
ROOT_KEY = "#!/bin/sh\nprintf '%064d' 7\n"


def installed() -> bool:
    return (pg_config("--sharedir") / "extension/pgsodium.control").exists()


def server_settings(place: Path) -> dict[str, str]:
    """Returns the settings that the server needs before CREATE EXTENSION.

    It writes a program into `place`, which the server's user must reach.
    """
    if not installed():
        return {}
    program = place / "pgsodium_getkey"
    program.write_text(ROOT_KEY)
    program.chmod(0o755)
    place.chmod(0o711)
    return {"shared_preload_libraries": "pgsodium", "pgsodium.getkey_script": str(program)}


def labels(table: str, columns: tuple[str, ...]) -> list[str]:
    """Makes a key, and the labels that make pgsodium's trigger and view. They are bound to the row's id, as our values
    are.
    """
    label = "'ENCRYPT WITH KEY ID ' || key_id || ' ASSOCIATED (id)'"
    lines = [
        f"EXECUTE format('SECURITY LABEL FOR pgsodium ON COLUMN {table}.{column} IS %L', {label});"
        for column in columns
    ]
    made = "key_id uuid := (pgsodium.create_key('aead-det')).id;"
    return [f"DO $$ DECLARE {made} BEGIN {' '.join(lines)} END $$"]
