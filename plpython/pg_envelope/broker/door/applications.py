"""Knows which application a certificate stands for, and which keys that application may have."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

from pg_envelope import errors, wire
from pg_envelope.broker.door.rates import Rate
from pg_envelope.broker.requests.asked import Facts
from pg_envelope.broker.requests.messages import DeriveRequest, request
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.settings.door import ApplicationSettings, DoorSettings

# What Python makes of a certificate: {"subjectAltName": (("URI", ...), ...), "notAfter": ..., "serialNumber": ...}.
Certificate = Mapping[str, Any]
HINT = "See [application.NAME] in the broker's configuration."


class Application:
    """One application. `check` decides on a request; what it returns is all that the service sees."""

    def __init__(self, name: str, settings: ApplicationSettings, rate: Rate) -> None:
        self.name, self.san = name, settings.san
        self._labels = {uuid: label for label, uuid in settings.fields.items()}
        self._rate = rate

    def check(self, message: wire.Message, address: str) -> wire.Message:
        """Returns the request in the door's own words: who asks, and the labels. Raises NotPermitted, Overloaded,
        BadInput.
        """
        if message.get("op") != "derive":
            raise errors.NotPermitted("applications may only ask for field keys", hint=HINT)
        common, wanted = request(message), read(DeriveRequest, message)
        if any(field.field_uuid not in self._labels for dek in wanted.keys for field in dek.fields):
            raise errors.NotPermitted("this application may not have the key", hint=HINT)
        self._rate.take(sum(len(dek.fields) for dek in wanted.keys))
        return {
            "v": wire.PROTOCOL,
            "op": "derive",
            "deadline_ms": common.deadline_ms,
            "environment": common.environment,
            "who": self._who(address),
            "database_uuid": str(wanted.database_uuid),
            "keys": [
                self._labelled(dek, found.fields) for dek, found in zip(message["keys"], wanted.keys, strict=True)
            ],
        }

    def _labelled(self, dek: wire.Message, fields: Any) -> wire.Message:
        labels = [self._labels[field.field_uuid] for field in fields]
        return {**dek, "fields": [{**one, "label": label} for one, label in zip(dek["fields"], labels, strict=True)]}

    def _who(self, address: str) -> wire.Who:
        name = self.name
        return {"database": "", "role": name, "acting": name, "client": address, "application": self.san, "pid": 0}


class Applications:
    """All applications of the configuration, by the name in their certificates."""

    def __init__(
        self, door: DoorSettings, settings: Mapping[str, ApplicationSettings], clock: Callable[[], float]
    ) -> None:
        self._by_san = {
            one.san: Application(name, one, Rate(door.keys_per_second, clock)) for name, one in settings.items()
        }

    def of(self, certificate: Certificate) -> Application:
        """Returns the application of a certificate that the TLS side has verified. Raises NotPermitted for none, and
        for more than one.
        """
        found = [self._by_san[san] for san in sans(certificate) if san in self._by_san]
        if len(found) != 1:
            raise errors.NotPermitted("the broker knows no application of this certificate", hint=HINT)
        return found[0]


def sans(certificate: Certificate) -> list[str]:
    """Returns the alternative names of a certificate, each as `URI:...` or `DNS:...`, without repeats."""
    return list(dict.fromkeys(f"{kind}:{name}" for kind, name in certificate.get("subjectAltName", ())))


def facts(certificate: Certificate, address: str) -> Facts:
    """Returns what the audit log says of a certificate."""
    return {"address": address, "serial": certificate.get("serialNumber"), "san": sans(certificate)}


def expires(certificate: Certificate) -> float:
    """Returns when a certificate is over, in seconds of the Unix clock."""
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))
