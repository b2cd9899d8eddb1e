"""Carries out init in its two ways: a KMS with its login and policy, or a keyring of this machine's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.setup import keyring_file, private_files, service
from pg_envelope_client.setup import plan as plans
from pg_envelope_client.setup.broker_config import ConfigFile
from pg_envelope_client.setup.plan import Asked, VaultPlan
from pg_envelope_client.setup.steps import Steps

CONFIG = "broker.toml"
ROLE_ID = "role_id"
SECRET_ID = "secret_id"  # noqa: S105


@dataclass
class InitOutcome:
    """The result of init: the configuration, the steps, and the policy, which is empty for a keyring."""

    config: Path
    policy: str = ""
    steps: Steps = field(default_factory=Steps)


def admin_token(token_file: Path | None, environment: Mapping[str, str] = os.environ) -> str:
    """Returns the admin's token, from a file or VAULT_TOKEN. A command line would show it to every user."""
    if token_file is not None:
        return private_files.read_secret(token_file)
    if token := environment.get("VAULT_TOKEN", "").strip():
        return token
    raise usage("no admin token", hint="Give --token-file FILE, or set VAULT_TOKEN.")


def init_vault(asked: Asked, token: str) -> InitOutcome:
    """Sets up Vault or OpenBao, and writes DIR/broker.toml, role_id, secret_id and ca.pem."""
    config = ConfigFile(asked.out / CONFIG)
    part, plan = plans.broker_part(asked, config), plans.vault_plan(asked, config)
    outcome = InitOutcome(config.path)
    user = service.prepare(part.allowed_users, outcome.steps) if asked.service else None
    ca_pem = asked.ca_file.read_bytes() if asked.ca_file else None
    _make_directory(asked.out)
    outcome.policy = _provision(asked, plan, token, outcome.steps)
    if ca_pem is not None:
        private_files.write(Path(plan.ca_file), ca_pem, private_files.PUBLIC)
    plans.fill_broker(config, part)
    plans.fill_vault(config, plan, asked.out)
    outcome.steps.add(str(config.path), config.write())
    if user is not None:
        service.finish(asked.out, part.socket, [asked.out / ROLE_ID, asked.out / SECRET_ID], user, outcome.steps)
    return outcome


def _provision(asked: Asked, plan: VaultPlan, token: str, steps: Steps) -> str:
    """Returns the policy, when the KMS is ready and the login is in its files."""
    try:
        from pg_envelope_client.setup import vault
    except ModuleNotFoundError as error:
        raise Problem(f"{error.name} is not installed", hint="Run make install again.") from None
    role_file, secret_file = asked.out / ROLE_ID, asked.out / SECRET_ID
    role_id = private_files.read_secret_if_there(role_file)
    secret_id = private_files.read_secret_if_there(secret_file)
    held = vault.Login(role_id, secret_id) if role_id and secret_id else None
    trust = str(asked.ca_file) if asked.ca_file else plan.ca_file
    done = vault.provision(plan, token, held, trust or None, steps)
    if done.login != held:
        private_files.write(role_file, f"{done.login.role_id}\n".encode(), private_files.SECRET)
        private_files.write(secret_file, f"{done.login.secret_id}\n".encode(), private_files.SECRET)
    return done.policy


def init_keyring(asked: Asked, keyring: Path, passphrase_file: Path) -> InitOutcome:
    """Makes a keyring with the KEK, or adds the KEK to it, and writes DIR/broker.toml."""
    config = ConfigFile(asked.out / CONFIG)
    part, plan = plans.broker_part(asked, config), plans.keyring_plan(asked, config, keyring, passphrase_file)
    outcome = InitOutcome(config.path)
    user = service.prepare(part.allowed_users, outcome.steps) if asked.service else None
    _make_directory(asked.out)
    keyring_file.prepare(plan, outcome.steps)
    plans.fill_broker(config, part)
    plans.fill_keyring(config, plan)
    outcome.steps.add(str(config.path), config.write())
    if user is not None:
        secrets = [Path(plan.keyring_file), Path(plan.passphrase_file)]
        service.finish(asked.out, part.socket, secrets, user, outcome.steps)
    return outcome


def _make_directory(out: Path) -> None:
    if out.is_dir():
        return
    out.mkdir(parents=True)
    # Others may pass through the folder, and not list it: the server's user must reach backend.conf. Secrets have 0600
    # themselves.
    out.chmod(0o711)
