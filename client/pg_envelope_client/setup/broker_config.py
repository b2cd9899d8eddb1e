"""Keeps the broker's configuration file: init makes it, a second init extends it, and a person's comments stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pg_envelope_client.problems import Problem
from pg_envelope_client.setup import private_files
from pg_envelope_client.setup.steps import State

Value = TypeVar("Value", str, list[str])
Values = Mapping[str, str | list[str]]

DEFAULT_SOCKET = "/run/pg_envelope/broker.sock"
HEADING = "Configuration of the key broker. Written by pg-envelope init; yours to edit."


class ConfigFile:
    """broker.toml, read once. The settings that it has already are never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = path.read_text(encoding="utf-8") if path.exists() else None
        self._document = _new() if self._read is None else _parse(self._read, path)

    def choose(self, table: str, name: str, asked: Value | None, default: Value) -> Value:
        """Returns the file's value, else the value that was asked for, else the default. Raises Problem if file and
        asked differ.
        """
        found: Value | None = self._find(table).get(name)
        if found is None:
            return default if asked is None else asked
        if asked is not None and asked != found:
            raise Problem(
                f"{self.path} has another {name} in [{table}]",
                detail=f"In the file: {found}. Asked for: {asked}.",
                hint="Edit the file if it is wrong, or use another --out for another setup.",
            )
        return found

    def keys_of(self, kms: str) -> set[str]:
        """Returns the KMS's names of all KEKs that the file declares under `kms`."""
        return {kek["key"] for kek in self._find("kek").values() if kek.get("kms") == kms and "key" in kek}

    def fill(self, table: str, values: Values, inline: bool = False) -> None:
        """Adds the values that [table] lacks."""
        target = self._make(table, inline)
        for name, value in values.items():
            if name not in target:
                target.add(name, value)

    def write(self) -> State:
        """Writes the file if it changed (mode 0640)."""
        text = tomlkit.dumps(self._document)
        if text == self._read:
            return "already there"
        private_files.write(self.path, text.encode(), private_files.CONFIG)
        return "updated" if self._read else "created"

    def _find(self, table: str) -> dict[str, Any]:
        found: Any = self._document.unwrap()
        for part in table.split("."):
            found = found.get(part, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _make(self, table: str, inline: bool) -> Any:
        *parents, leaf = table.split(".")
        here: Any = self._document
        for part in parents:
            if part not in here:
                here.add(part, tomlkit.table(is_super_table=True))
            here = here[part]
        if leaf not in here:
            here.add(leaf, tomlkit.inline_table() if inline else tomlkit.table())
        return here[leaf]


def _new() -> tomlkit.TOMLDocument:
    document = tomlkit.document()
    document.add(tomlkit.comment(HEADING))
    return document


def _parse(text: str, path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise Problem(f"{path} is not TOML", detail=str(error)) from None
