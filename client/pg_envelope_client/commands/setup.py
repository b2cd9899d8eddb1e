"""pg-envelope init and broker: the KMS, the configuration, and the process that uses both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output
from pg_envelope_client.commands.report import show_checks
from pg_envelope_client.problems import Problem, usage

if TYPE_CHECKING:
    from pg_envelope_client.setup.init import InitOutcome
    from pg_envelope_client.setup.plan import Asked

VAULT, BROKER, KEYRING = "Vault or OpenBao", "Broker", "Keyring file"


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


def _default(panel: str, default: str) -> Any:
    return _option(panel, help=f"Default: {default}")


Out = Annotated[Path, typer.Option(metavar="DIR", help="Where broker.toml and the broker's login go.")]
Kek = Annotated[str, typer.Option(help="The KEK to set up; run again with another name to add one.")]
Address = Annotated[str | None, _option(VAULT, metavar="URL")]
CaFile = Annotated[Path | None, _option(VAULT, exists=True, dir_okay=False, help="CA of the KMS, in PEM.")]
TokenFile = Annotated[
    Path | None, _option(VAULT, exists=True, help="The admin's token. Default: the variable VAULT_TOKEN.")
]
PolicyName = Annotated[str, _option(VAULT, help="Also the name of the AppRole.")]
AllowShred = Annotated[bool, _option(VAULT, "--allow-shred", help="Let the broker delete wrapped DEKs for good.")]
AllowUser = Annotated[
    list[str] | None, _option(BROKER, help="Operating-system user of the server; repeatable. Default: postgres")
]
Environment = Annotated[str | None, _option(BROKER, help="Each wrapped DEK is bound to this name. Default: default")]
Service = Annotated[
    bool,
    _option(BROKER, "--service", help="As root, for systemd: make the user pg-envelope, its folders and backend.conf."),
]
KeyringFile = Annotated[Path | None, _option(KEYRING, metavar="FILE", help="Use a keyring file instead of a KMS.")]
PassphraseFile = Annotated[Path | None, _option(KEYRING, exists=True, dir_okay=False, help="Opens the keyring.")]


def init(
    out: Out,
    kek: Kek = "default",
    address: Address = None,
    ca_file: CaFile = None,
    token_file: TokenFile = None,
    namespace: Annotated[str | None, _default(VAULT, "none.")] = None,
    transit_mount: Annotated[str | None, _default(VAULT, "transit")] = None,
    kv_mount: Annotated[str | None, _default(VAULT, "kv")] = None,
    kv_path: Annotated[str | None, _default(VAULT, "pg_envelope")] = None,
    approle_mount: Annotated[str | None, _default(VAULT, "approle")] = None,
    policy_name: PolicyName = "pg-envelope-broker",
    allow_shred: AllowShred = False,
    socket: Annotated[str | None, _default(BROKER, "/run/pg_envelope/broker.sock")] = None,
    allow_user: AllowUser = None,
    environment: Environment = None,
    service: Service = False,
    keyring: KeyringFile = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Set up keys, policy and login in Vault or OpenBao, and write the broker's configuration. Safe to run again."""
    from pg_envelope_client.setup.plan import Asked, BrokerAsked

    asked = Asked(
        out=out.resolve(),
        kek=kek,
        policy_name=policy_name,
        broker=BrokerAsked(socket, allow_user, environment),
        address=address,
        ca_file=ca_file,
        namespace=namespace,
        transit_mount=transit_mount,
        kv_mount=kv_mount,
        kv_path=kv_path,
        approle_mount=approle_mount,
        allow_shred=allow_shred,
        service=service,
    )
    _show(_set_up(asked, token_file, keyring, passphrase_file), service)


def _set_up(asked: Asked, token_file: Path | None, keyring: Path | None, passphrase_file: Path | None) -> InitOutcome:
    from pg_envelope_client.setup import init as setup

    if keyring is None and passphrase_file is None:
        return setup.init_vault(asked, setup.admin_token(token_file))
    if keyring is None or passphrase_file is None:
        raise usage("--keyring and --passphrase-file go together")
    _refuse_both(asked)
    return setup.init_keyring(asked, keyring.resolve(), passphrase_file.resolve())


def _refuse_both(asked: Asked) -> None:
    if asked.address or asked.ca_file:
        raise usage("--keyring and --address are two ways: give one")


def _show(outcome: InitOutcome, service: bool) -> None:
    if output.for_machine():
        steps = outcome.steps.rows()
        output.print_json({"config": str(outcome.config), "policy": outcome.policy or None, "steps": steps})
        return
    if outcome.policy:
        output.say("The broker's policy:", style="bold")
        output.say(outcome.policy)
    output.print_rows(outcome.steps.rows(), ("what", "state", "detail"), "Nothing to do.")
    output.say("\nWhat to do next:", style="bold")
    for line in _next_for_service(outcome.config) if service else _next(outcome.config):
        output.say(f"- {line}")


def _next_for_service(config: Path) -> list[str]:
    return [
        f"check:           pg-envelope broker --check --config {config}",
        "start:           systemctl enable --now pg-envelope-broker",
        'in the database: psql -c "CREATE EXTENSION pg_envelope CASCADE", then SELECT * FROM envelope.status()',
    ]


def _next(config: Path) -> list[str]:
    """Returns the next steps, for a machine where a person chose user and folders, and no systemd unit did."""
    return [
        f"owners:          {config} and the secrets beside it belong to the broker's user; {config.parent} to root",
        "ledger:          install -d -m 0700 -o USER /var/lib/pg_envelope",
        f"check:           pg-envelope broker --check --config {config}",
        f"start:           pg-envelope broker --config {config}",
        'in the database: psql -c "CREATE EXTENSION pg_envelope CASCADE", then SELECT * FROM envelope.status()',
        "all of this, on a server with systemd: pg-envelope init --service ...",
    ]


def broker(
    config: Annotated[Path, typer.Option(metavar="FILE", help="broker.toml, as written by init.")],
    check: Annotated[bool, typer.Option("--check", help="Check configuration and KMS, then stop.")] = False,
) -> None:
    """Run the key broker, or check that it could run (exit code 1 if a check failed)."""
    if output.for_machine() and not check:
        raise usage("--json goes with --check", hint="A running broker writes its events to its audit log, as JSON.")
    if not check:
        raise typer.Exit(_run(config))
    show_checks(_checks(config))


def _run(config: Path) -> int:
    from pg_envelope.broker.prepare import prepare
    from pg_envelope.errors import EnvelopeError

    prepare(config)
    from pg_envelope.broker import app  # it loads `cryptography`

    try:
        return app.run(config)
    except EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None


def _checks(config: Path) -> Sequence[output.Row]:
    """Returns the checks. As root it runs them as the broker's own user, because that user's rights count."""
    from pg_envelope_client.setup.as_user import as_user, owner

    user = owner(config) if os.geteuid() == 0 else None
    if user is None:
        return _own_checks(config)
    output.note(f"checked as {user.pw_name}, to whom {config} or its secrets belong")
    return as_user(user, ["broker", "--check", "--config", str(config)])


def _own_checks(config: Path) -> Sequence[output.Row]:
    from pg_envelope.broker.prepare import prepare

    prepare(config)
    from pg_envelope.broker.check import check
    from pg_envelope.broker.startup import become_owner
    from pg_envelope.errors import EnvelopeError

    try:
        become_owner(config)
        findings = check(config)
    except EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None
    return [
        {"check_name": found.name, "state": found.state, "detail": found.detail, "hint": found.hint}
        for found in findings
    ]
