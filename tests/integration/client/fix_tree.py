"""Every command that there is, with words that make sense for it: from the command's own tree of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from pg_envelope_client.cli import commands

# Given although they may be left out: without them the command would ask, begin a daemon, or do nothing.
GIVEN = (
    "check",
    "once",
    "is_due",
    "no_backup",
    "subject_file",
    "tenant",
    "passphrase_file",
    "keyring",
    "key",
    "taken",
    "until",
    "broker",
    "variables",
)

Values = Mapping[str, str | bool | list[str]]


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with the words that name it."""
    command = command or typer.main.get_command(commands)
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, one in command.commands.items():
        yield from leaves(one, (*path, name))


def words(path: tuple[str, ...], command: Any, values: Values) -> list[str]:
    """The whole command line; `values` by parameter, or by command and parameter. Raises KeyError for a new one."""
    arguments, options = [], []
    for parameter in command.params:
        if not (parameter.required or parameter.name in GIVEN):
            continue
        value = values.get(" ".join((*path, parameter.name)), values[parameter.name])
        if parameter.param_type_name == "argument":
            arguments += value if isinstance(value, list) else [value]
        elif value is True:
            options.append(parameter.opts[0])
        elif value is not False:
            options += [parameter.opts[0], value]
    return [*path, *options, "--", *arguments]
