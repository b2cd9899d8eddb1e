"""Fixtures of the client that seals and opens outside the server."""

from __future__ import annotations

from tests.integration.client.fix_kms import kms, server
from tests.integration.fix_server_user import folder, run
from tests.integration.sealing.fix_door import door, door_place
from tests.integration.sealing.fix_vault import vault

__all__ = ["door", "door_place", "folder", "kms", "run", "server", "vault"]
