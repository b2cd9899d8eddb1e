"""Sets up Vault or OpenBao for the broker; every step looks first and changes only what is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hvac
import requests
from hvac import exceptions

from pg_envelope_client.problems import Problem
from pg_envelope_client.setup import policy
from pg_envelope_client.setup.plan import VaultPlan
from pg_envelope_client.setup.steps import Steps

KEY_TYPE = "aes256-gcm96"
TIMEOUT = 15
# The token's life is an hour, and it is renewed up to a day. Then the broker logs in again. `default` would add rights.
ROLE = {"token_ttl": "1h", "token_max_ttl": "24h", "token_type": "service", "token_no_default_policy": True}


@dataclass(frozen=True)
class Login:
    """The broker's AppRole login. It is a secret, and kept out of repr."""

    role_id: str
    secret_id: str

    def __repr__(self) -> str:
        return "Login(...)"


@dataclass(frozen=True)
class Provisioned:
    policy: str
    login: Login


def provision(plan: VaultPlan, token: str, held: Login | None, ca_file: str | None, steps: Steps) -> Provisioned:
    """Makes what is missing, step by step. `held` is the login of an earlier run, which is kept if it is still good."""
    with _reachable(plan.address):
        return _Setup(_client(plan, token, ca_file), plan, steps).run(held)


def _client(plan: VaultPlan, token: str, ca_file: str | None) -> Any:
    session = requests.Session()
    # A connection that carries a token takes no proxies and CA bundles from the environment. The broker does the same.
    session.trust_env = False
    session.verify = ca_file or True
    session.hooks["response"] = [_refuse_redirect]
    return hvac.Client(
        url=plan.address,
        token=token,
        namespace=plan.namespace or None,
        timeout=TIMEOUT,
        session=session,
        # A redirect would carry the token to another host.
        allow_redirects=False,
    )


def _refuse_redirect(answer: requests.Response, *_: object, **__: object) -> None:
    if answer.is_redirect:
        raise Problem(
            "the KMS redirects to another address", hint="Give the active node, or a load balancer, as --address."
        )


class _Setup:
    def __init__(self, client: Any, plan: VaultPlan, steps: Steps) -> None:
        self.client = client
        self.plan = plan
        self.steps = steps

    def run(self, held: Login | None) -> Provisioned:
        places = self.plan.places
        self._engine("transit", places.transit_mount, {})
        self._key()
        if self._engine("kv", places.kv_mount, {"version": "2"}):
            self._require_check_and_set()
        text = self._policy()
        self._auth_method()
        self._role()
        return Provisioned(text, self._login(held))

    def _engine(self, kind: str, mount: str, options: dict[str, str]) -> bool:
        """Returns True if the secrets engine had to be enabled."""
        what = f"secrets engine {mount}/"
        try:
            found = self._mounted(f"sys/mounts/{mount}")
        except exceptions.Forbidden:
            self.steps.add(what, "not checked", f"the token may not read sys/mounts/{mount}")
            return False
        if found is not None:
            _check_engine(found, kind, mount, options)
            self.steps.add(what, "already there", _engine_name(kind, options))
            return False
        with _permitted("create", f"sys/mounts/{mount}"):
            self.client.sys.enable_secrets_engine(kind, path=mount, options=options or None)
        self.steps.add(what, "created", _engine_name(kind, options))
        return True

    def _mounted(self, path: str) -> dict[str, Any] | None:
        try:
            answer = self.client.read(path)
        except exceptions.InvalidRequest:
            # The servers answer 400, not 404, for a mount that is not there.
            return None
        return None if answer is None else dict(answer["data"])

    def _key(self) -> None:
        mount, key = self.plan.places.transit_mount, self.plan.key
        what = f"KEK {self.plan.kek}"
        found = self._read_key(mount, key)
        if found is None:
            with _permitted("create", f"{mount}/keys/{key}"):
                self.client.secrets.transit.create_key(
                    key, derived=True, exportable=False, key_type=KEY_TYPE, mount_point=mount
                )
            self.steps.add(what, "created", f"{mount}/keys/{key}: {KEY_TYPE}, derived, not exportable")
            found = self._read_key(mount, key) or {}
        else:
            self.steps.add(what, "already there", f"{mount}/keys/{key}, version {found.get('latest_version')}")
        _check_key(found, f"{mount}/keys/{key}")
        if found.get("deletion_allowed"):
            self._forbid_deletion(mount, key)

    def _read_key(self, mount: str, key: str) -> dict[str, Any] | None:
        with _permitted("read", f"{mount}/keys/{key}"):
            try:
                return dict(self.client.secrets.transit.read_key(key, mount_point=mount)["data"])
            except exceptions.InvalidPath:
                return None

    def _forbid_deletion(self, mount: str, key: str) -> None:
        with _permitted("update", f"{mount}/keys/{key}/config"):
            self.client.secrets.transit.update_key_configuration(key, deletion_allowed=False, mount_point=mount)
        self.steps.add(f"KEK {self.plan.kek}", "updated", "deletion no longer allowed")

    def _require_check_and_set(self) -> None:
        """On a mount of our own, makes the server refuse every write that could overwrite a wrapped DEK unseen."""
        mount = self.plan.places.kv_mount
        with _permitted("update", f"{mount}/config"):
            _when_ready(lambda: self.client.secrets.kv.v2.configure(cas_required=True, mount_point=mount))
        self.steps.add(f"check-and-set of {mount}/", "created", "no write without it")

    def _policy(self) -> str:
        places, name = self.plan.places, self.plan.policy_name
        what = f"policy {name}"
        existing = self._read_policy(name)
        # Keys of earlier runs stay. Without them the broker could no longer unwrap what they wrapped.
        kept = policy.keys_of(places, existing, name) if existing else set()
        allow_shred = self.plan.allow_shred or policy.allows_shred(places, existing or "")
        wanted = policy.text(places, {self.plan.key, *self.plan.other_keys, *kept}, allow_shred=allow_shred)
        if existing == wanted:
            self.steps.add(what, "already there")
            return wanted
        with _permitted("update", f"sys/policies/acl/{name}"):
            self.client.sys.create_or_update_acl_policy(name, wanted)
        self.steps.add(what, "updated" if existing else "created")
        return wanted

    def _read_policy(self, name: str) -> str | None:
        with _permitted("read", f"sys/policies/acl/{name}"):
            try:
                return str(self.client.sys.read_acl_policy(name)["data"]["policy"])
            except exceptions.InvalidPath:
                return None

    def _auth_method(self) -> None:
        mount = self.plan.approle_mount
        what = f"auth method {mount}/"
        try:
            found = self._mounted(f"sys/auth/{mount}")
        except exceptions.Forbidden:
            self.steps.add(what, "not checked", f"the token may not read sys/auth/{mount}")
            return
        if found is None:
            with _permitted("create and sudo", f"sys/auth/{mount}"):
                self.client.sys.enable_auth_method("approle", path=mount)
            self.steps.add(what, "created", "approle")
        elif found.get("type") != "approle":
            raise Problem(f"auth/{mount} is of type {found.get('type')}, not approle", hint="Use --approle-mount.")
        else:
            self.steps.add(what, "already there", "approle")

    def _role(self) -> None:
        name = self.plan.policy_name
        found = self._read_role(name)
        if found is None:
            self._write_role({**ROLE, "token_policies": [name]})
            self.steps.add(f"AppRole {name}", "created", "token for 1 h, renewable up to 24 h")
            return
        if found["token_policies"] != [name]:
            raise Problem(
                f"AppRole {name} exists and has other policies than {name}", hint="Choose another --policy-name."
            )
        if found.get("token_no_default_policy"):
            self.steps.add(f"AppRole {name}", "already there")
        else:
            self._write_role({"token_no_default_policy": True})
            self.steps.add(f"AppRole {name}", "updated", "policy default taken away")

    def _read_role(self, name: str) -> dict[str, Any] | None:
        with _permitted("read", self._role_path()):
            try:
                return dict(self.client.auth.approle.read_role(name, mount_point=self.plan.approle_mount)["data"])
            except exceptions.InvalidPath:
                return None

    def _write_role(self, settings: dict[str, Any]) -> None:
        name, mount = self.plan.policy_name, self.plan.approle_mount
        with _permitted("create and update", self._role_path()):
            self.client.auth.approle.create_or_update_approle(name, mount_point=mount, **settings)

    def _login(self, held: Login | None) -> Login:
        name, mount = self.plan.policy_name, self.plan.approle_mount
        with _permitted("read", f"{self._role_path()}/role-id"):
            role_id = self.client.auth.approle.read_role_id(name, mount_point=mount)["data"]["role_id"]
        if held is not None and held.role_id == role_id and self._is_good(held.secret_id):
            self.steps.add("secret id", "kept", "still valid")
            return held
        with _permitted("update", f"{self._role_path()}/secret-id"):
            answer = self.client.auth.approle.generate_secret_id(name, mount_point=mount)
        self.steps.add("secret id", "created")
        return Login(role_id, answer["data"]["secret_id"])

    def _is_good(self, secret_id: str) -> bool:
        name, mount = self.plan.policy_name, self.plan.approle_mount
        with _permitted("update", f"{self._role_path()}/secret-id/lookup"):
            # No content means that there is no such secret id; hvac then returns the bare response.
            return isinstance(self.client.auth.approle.read_secret_id(name, secret_id, mount_point=mount), dict)

    def _role_path(self) -> str:
        return f"auth/{self.plan.approle_mount}/role/{self.plan.policy_name}"


def _engine_name(kind: str, options: dict[str, str]) -> str:
    return f"{kind} version {options['version']}" if options else kind


def _check_engine(found: dict[str, Any], kind: str, mount: str, options: dict[str, str]) -> None:
    if found.get("type") != kind:
        raise Problem(
            f"{mount}/ is a secrets engine of type {found.get('type')}, not {kind}", hint=f"Use --{kind}-mount."
        )
    if not options.items() <= (found.get("options") or {}).items():
        raise Problem(f"{mount}/ is not KV version 2", hint="Use another --kv-mount, or: bao kv enable-versioning")


def _check_key(found: dict[str, Any], path: str) -> None:
    faults = [
        (found.get("type") != KEY_TYPE, f"its type is {found.get('type')}, not {KEY_TYPE}"),
        (not found.get("derived"), "it is not derived, so a wrapped DEK would not be bound to its database"),
        (bool(found.get("exportable")), "it is exportable"),
        (bool(found.get("allow_plaintext_backup")), "it allows plaintext backups"),
    ]
    reasons = [reason for wrong, reason in faults if wrong]
    if reasons:
        raise Problem(
            f"the key {path} exists and cannot serve as a KEK",
            detail="; ".join(reasons),
            hint="None of this can be changed later. Use another name: --kek NAME",
        )


def _when_ready(action: Any) -> None:
    """Repeats a request: a KV mount refuses requests for a moment after it was made."""
    for _ in range(20):
        try:
            action()
            return
        except exceptions.InvalidRequest:
            time.sleep(0.25)
    action()


@contextmanager
def _permitted(capability: str, path: str) -> Iterator[None]:
    try:
        yield
    except exceptions.Forbidden:
        raise Problem(
            f"the token is not allowed to: {capability} {path}",
            hint="Is it still valid, and for this namespace? If so, its policy needs that path.",
        ) from None


@contextmanager
def _reachable(address: str) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise Problem(
            f"{address} does not show a certificate to trust", detail=_reason(error), hint="Give its CA with --ca-file."
        ) from None
    except requests.exceptions.RequestException as error:
        raise Problem(
            f"{address} does not answer", detail=_reason(error), hint="Is the KMS up? Check --address."
        ) from None
    except exceptions.VaultDown:
        raise Problem("the KMS is sealed or on standby", hint="Unseal it: bao operator unseal") from None
    except exceptions.VaultError as error:
        raise Problem("the KMS refused a request", detail=str(error)) from None


def _reason(error: Exception) -> str:
    """Returns the innermost cause, on which a person can act."""
    inner: Any = error
    while inner.args and isinstance(inner.args[0], Exception):
        inner = inner.args[0]
    return str(getattr(inner, "reason", inner))
