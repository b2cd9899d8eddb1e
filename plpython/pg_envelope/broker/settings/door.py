"""Settings of the door for applications, and of each application that may use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from pg_envelope.broker.settings.wants import address, want

SAN = re.compile(r"(URI|DNS):[!-~]+\Z")

Fields = Mapping[str, UUID]


@dataclass(frozen=True)
class DoorSettings:
    """[door]. `max_connections` and `keys_per_second` are for each application; `max_requests` is for all together."""

    certificate_file: Path
    key_file: Path
    client_ca_file: Path
    listen: str = "127.0.0.1:9465"
    crl_file: str = ""
    max_connections: int = 100
    max_requests: int = 64
    keys_per_second: float = 100.0

    def __post_init__(self) -> None:
        address(self.listen, "door.listen")
        want(not self.crl_file or Path(self.crl_file).is_absolute(), "door.crl_file must be an absolute path")
        want(self.max_connections > 0, "door.max_connections must be above 0")
        want(self.max_requests > 0, "door.max_requests must be above 0")
        want(self.keys_per_second > 0, "door.keys_per_second must be above 0")


@dataclass(frozen=True)
class ApplicationSettings:
    """[application.NAME]: the name in its certificate, and the fields whose keys it may have.

    `fields` maps a name for people, which the audit log shows, to a field uuid. The uuid decides.
    """

    san: str
    fields: Fields = field(default_factory=dict)

    def __post_init__(self) -> None:
        want(
            bool(SAN.match(self.san)),
            'application.NAME.san must be a name of the certificate, such as "URI:spiffe://shop.example/crm"',
        )
        want(len(set(self.fields.values())) == len(self.fields), "application.NAME.fields has a uuid twice")


def check_applications(door: DoorSettings | None, applications: Mapping[str, ApplicationSettings]) -> None:
    """Raises NotConfigured for applications without a door, or for two applications with one name in certificates."""
    want(door is not None or not applications, "[application.NAME] needs a [door]")
    names = [application.san for application in applications.values()]
    want(len(set(names)) == len(names), "two applications have the same san")
