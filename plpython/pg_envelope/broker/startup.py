"""Checks, before the broker starts, its secrets, and rehearses opening each thing that the broker will hold.

A rehearsal runs the code of the start itself. It refuses what the start would refuse, and releases all that it took.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets as random
import tempfile
from dataclasses import replace
from pathlib import Path

from pg_envelope import errors
from pg_envelope.broker import server
from pg_envelope.broker.door import door, tls
from pg_envelope.broker.keys.epoch import EpochFile
from pg_envelope.broker.kms.providers import secrets
from pg_envelope.broker.ledger import ledger
from pg_envelope.broker.ledger.held import check_directory, key_path
from pg_envelope.broker.ledger.read_ledger import WHAT, ReadLedger
from pg_envelope.broker.settings.config import BrokerSettings, Config
from pg_envelope.broker.settings.door import DoorSettings
from pg_envelope.broker.settings.kms import KeyringSettings, SecretsSettings
from pg_envelope.broker.system import files
from pg_envelope.broker.watch import http
from pg_envelope.broker.watch.audit import STANDARD_OUTPUT, Audit

# The flag __SO_ACCEPTCON, as /proc/net/unix prints it.
LISTENING = "00010000"


def check_secrets(config: Config) -> None:
    """Raises NotConfigured for a secret file that is missing or open to others, or a secret that is not fit."""
    for path in secret_files(config):
        files.read_private(path)
    for settings, key in secret_keks(config):
        secrets.check(settings, key)
    if config.door is not None:
        tls.context(config.door)


def secret_files(config: Config) -> list[Path]:
    return [path for settings in config.kms.values() for path in settings.secret_files]


def secret_keks(config: Config) -> list[tuple[SecretsSettings, str]]:
    """Returns the KEKs that are made from secrets in the environment: settings and key."""
    found = ((config.kms[kek.kms], kek.key) for kek in config.kek.values())
    return [(settings, key) for settings, key in found if isinstance(settings, SecretsSettings)]


def keyrings(config: Config) -> list[Path]:
    return [settings.keyring_file for settings in config.kms.values() if isinstance(settings, KeyringSettings)]


def become_owner(config: Path) -> None:
    """Changes from root to the broker's user, who owns the configuration: root's rights say nothing of that user's."""
    if os.geteuid() != 0 or not config.exists() or (uid := config.stat().st_uid) == 0:
        return
    try:
        owner = pwd.getpwuid(uid)
    except KeyError:
        raise errors.NotConfigured(f"{config} belongs to a user that this machine does not know (uid {uid})") from None
    os.initgroups(owner.pw_name, owner.pw_gid)
    os.setresgid(owner.pw_gid, owner.pw_gid, owner.pw_gid)
    os.setresuid(uid, uid, uid)


def running(broker: BrokerSettings) -> bool:
    """Tells whether a broker with this socket runs already: its directory is locked, and somebody listens."""
    try:
        rehearse_epoch(broker)
    except errors.NotConfigured:
        rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
        return any(row[-1] == str(broker.socket) and row[3] == LISTENING for row in rows)
    return False


def rehearse_epoch(broker: BrokerSettings) -> None:
    """Raises NotConfigured when another broker runs in the directory, or the epoch's file is not ours."""
    if broker.epoch.exists():
        EpochFile(broker.epoch).close()
    else:
        _refuse_unwritable(broker.epoch.parent)


def rehearse_socket(broker: BrokerSettings) -> None:
    """Listens beside the socket's place, under a name of the same length. Raises NotConfigured."""
    server.refuse_occupied(broker.socket)
    length = len(broker.socket.name)
    beside = replace(broker, socket=broker.socket.with_name(random.token_hex(length)[:length]))
    try:
        server.listen(beside).close()
    except errors.NotConfigured as error:
        error.message = error.message.replace(str(beside.socket), str(broker.socket))
        raise
    finally:
        beside.socket.unlink(missing_ok=True)


def rehearse_metrics(broker: BrokerSettings) -> None:
    """Raises NotConfigured when another process has the port."""

    async def attempt() -> None:
        (await http.start(broker.metrics, {})).close()

    asyncio.run(attempt())


def rehearse_door(settings: DoorSettings) -> None:
    """Raises NotConfigured when the door's address is taken."""
    door.listen(settings).close()


def rehearse_ledger(broker: BrokerSettings) -> None:
    """Reads the ledger, if there is one. Raises NotConfigured when it is not whole, not ours, or in use."""
    path = broker.erasures
    ledger.check_directory(path)
    if not path.exists() and not ledger.key_path(path).exists():
        _refuse_unwritable(path.parent)
        return
    held = ledger.Ledger(path)
    try:
        for _ in ledger.verified(path, held.public_key):
            pass
    finally:
        held.close()


def rehearse_reads(broker: BrokerSettings) -> None:
    """Reads the ledger of reads, if there is one. Raises NotConfigured when it is not whole, not ours, or in use."""
    path = broker.reads_path
    if path.exists() or key_path(path).exists():
        ReadLedger(path, broker.environment).close()
    else:
        check_directory(path, WHAT)
        _refuse_unwritable(path.parent)


def rehearse_audit(broker: BrokerSettings) -> None:
    """Writes a line `checked` into an existing log, or a line into a file that it removes. Raises EnvelopeError.

    It does not make the log itself, because the user who checks may not be the broker's user.
    """
    target = Path(broker.audit_log)
    if broker.audit_log == STANDARD_OUTPUT:
        return
    if target.exists():
        log = Audit(broker.audit_log)
        try:
            log.write("checked", uid=os.geteuid())
        finally:
            log.close()
        return
    try:
        with tempfile.TemporaryFile(dir=target.parent) as draft:
            draft.write(b"{}\n")
    except OSError as error:
        raise errors.NotConfigured("the audit log cannot be written", detail=error.strerror) from None


def _refuse_unwritable(directory: Path) -> None:
    if not os.access(directory, os.W_OK):
        raise errors.NotConfigured(
            f"the broker cannot write to {directory}",
            hint="It must belong to the broker's user, with mode 0711 or less.",
        )
