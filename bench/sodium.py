"""pgsodium as its users have it: preloaded, keys by uuid, columns labelled, read through the decrypting view."""

from __future__ import annotations

from pathlib import Path

from stack.postgres import pg_config

# The server's key, which pgsodium asks a program for; the benchmark's is no secret.
ROOT_KEY = "#!/bin/sh\nprintf '%064d' 7\n"


def installed() -> bool:
    return (pg_config("--sharedir") / "extension/pgsodium.control").exists()


def server_settings(place: Path) -> dict[str, str]:
    """What the server needs before CREATE EXTENSION; a program in `place`, which the server's user must reach."""
    if not installed():
        return {}
    program = place / "pgsodium_getkey"
    program.write_text(ROOT_KEY)
    program.chmod(0o755)
    place.chmod(0o711)
    return {"shared_preload_libraries": "pgsodium", "pgsodium.getkey_script": str(program)}


def labels(table: str, columns: tuple[str, ...]) -> list[str]:
    """A key, and the labels that make pgsodium's trigger and view. Bound to the row's id, as our values are."""
    label = "'ENCRYPT WITH KEY ID ' || key_id || ' ASSOCIATED (id)'"
    lines = [
        f"EXECUTE format('SECURITY LABEL FOR pgsodium ON COLUMN {table}.{column} IS %L', {label});"
        for column in columns
    ]
    made = "key_id uuid := (pgsodium.create_key('aead-det')).id;"
    return [f"DO $$ DECLARE {made} BEGIN {' '.join(lines)} END $$"]
