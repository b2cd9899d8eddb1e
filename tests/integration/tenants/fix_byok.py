"""A tenant with a KMS of its own: a namespace of OpenBao, with its own transit mount, policy and AppRole."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from stack.processes import private_file
from stack.stack import Stack
from tests.fix_stack import Database

from .fix_keks import make_transit_key

PROTECT = """CALL envelope.protect('doc', '["body"]', scope => 'tenant', scope_column => 'tenant')"""
RIGHTS = {
    "transit/keys/own": "read",
    "transit/datakey/wrapped/own": "update",
    "transit/encrypt/own": "update",
    "transit/rewrap/own": "update",
}


@dataclass
class Tenant:
    """What the tenant's own administrator can do; the KEK is `own`."""

    stack: Stack
    namespace: str

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.stack.openbao.request(method, f"{self.namespace}/{path}", body)

    def allow(self, *, decrypt: bool = True) -> None:
        rights = {**RIGHTS, **({"transit/decrypt/own": "update"} if decrypt else {})}
        text = "\n".join(f'path "{path}" {{ capabilities = ["{right}"] }}' for path, right in rights.items())
        self.api("PUT", "sys/policies/acl/lender", {"policy": text})

    def login(self) -> dict[str, Any]:
        """An AppRole for the broker; its files are the broker's."""
        self.api("POST", "sys/auth/approle", {"type": "approle"})
        self.api("POST", "auth/approle/role/lender", {"token_policies": ["lender"], "token_ttl": "1h"})
        made = {
            "role_id": self.api("GET", "auth/approle/role/lender/role-id")["data"]["role_id"],
            "secret_id": self.api("POST", "auth/approle/role/lender/secret-id", {})["data"]["secret_id"],
        }
        found: dict[str, Any] = {"method": "approle", "mount": "approle"}
        for name, secret in made.items():
            path = self.stack.broker.config_file.parent / f"{self.namespace}-{name}"
            private_file(path, secret, self.stack.broker.account)
            found[f"{name}_file"] = str(path)
        return found


@pytest.fixture
def own(keks: Stack) -> Tenant:
    """The KEK `own` of the broker is the tenant's, in a section of its own; both DEK caches last for a moment only."""
    tenant = Tenant(keks, f"tenant-{uuid.uuid4().hex[:8]}")
    keks.openbao.request("POST", f"sys/namespaces/{tenant.namespace}", {})
    tenant.api("POST", "sys/mounts/transit", {"type": "transit"})
    make_transit_key(keks, "own", f"{tenant.namespace}/transit")
    tenant.allow()
    main = keks.broker.config()["kms"]["main"]
    section = {**main, "namespace": tenant.namespace, "auth": tenant.login()}
    keks.broker.configure({"kms": {"own": section}, "kek": {"own": {"kms": "own", "key": "own"}}})
    keks.broker.restart()
    return tenant


@pytest.fixture
def docs(db: Database) -> Database:
    """doc (id, tenant, body): rows of the tenants acme and zen, each with keys of its own."""
    db.sql("CREATE TABLE doc (id int PRIMARY KEY, tenant text NOT NULL, body text)")
    db.sql("INSERT INTO doc VALUES (1, 'acme', 'a1'), (2, 'zen', 'z1')")
    db.sql(PROTECT)
    return db
