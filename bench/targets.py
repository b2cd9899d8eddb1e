"""Compares the targets with the run's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Measure


@dataclass(frozen=True)
class Target:
    """One target. `reached` is None when it could not be measured here."""

    text: str
    limit: float
    reached: float | None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached >= self.limit if self.at_least else self.reached <= self.limit


class Figures:
    """What a run has measured, by name."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._by_name = {measure.name: measure for measure in measures}

    def ours(self, name: str) -> float:
        return self._by_name[name].peers["ours"].figure

    def ratio(self, name: str, other: str, one: str = "ours") -> float | None:
        return self._by_name[name].ratio(one, other)


def evaluate(measures: Sequence[Measure], kms_requests: int) -> list[Target]:
    found = Figures(measures)
    ratio = found.ratio
    return [
        Target("scan of one column / pgcrypto decrypt_iv", 3, ratio("scan_1", "pgcrypto_iv")),
        Target("scan of one column / pgp_sym_decrypt", 1 / 40, ratio("scan_1", "pgcrypto_pgp")),
        Target("point read / plain table, Unix socket", 0.85, ratio("point_unix_column", "plain"), at_least=True),
        Target("point read / plain table, TCP", 0.85, ratio("point_tcp_column", "plain"), at_least=True),
        Target("first read / interpreter and import alone", 1.5, ratio("first_read", "bare")),
        Target("KMS requests for keys while warm", 0, float(kms_requests)),
        Target("INSERT ... SELECT, three columns / plain table", 12, ratio("insert_select", "plain")),
        Target("single-row INSERT, prepared / plain table", 2.2, ratio("insert_single", "plain")),
        Target("UPDATE of an open column / plain table", 3.1, ratio("update_open", "plain")),
        Target("UPDATE of one protected column / plain table", 3.7, ratio("update_1", "plain")),
        Target("UPDATE of three protected columns / plain table", 4.4, ratio("update_3", "plain")),
        Target("DELETE by key / plain table", 1.1, ratio("delete", "plain")),
        Target("INSERT of a new subject / plain table", 20, ratio("new_subject", "plain")),
        Target("requests to the broker for 1,000 subjects in any order", 60, found.ours("subjects_asked")),
        Target("row-level security, one column / plain table", 3.4, ratio("rls_column", "plain")),
        Target("row-level security, whole row / plain table", 4.8, ratio("rls_row", "plain")),
        Target("row-level security, UPDATE / plain table", 8, ratio("rls_update", "plain")),
        Target("audited scan / scan", 1.06, ratio("audited_scan", "ours", one="audited")),
        Target("audited point read / point read", 1.3, ratio("audited_point", "ours", one="audited")),
        Target("scan by a role that masks leave alone / scan", 1.03, ratio("masked_scan", "ours", one="clear")),
        Target("scan of masks / scan", 1.15, ratio("masked_scan", "ours", one="masked")),
        Target("named key, encrypt / point read of a plain table", 5, ratio("named_encrypt", "plain")),
        Target("named key, decrypt / point read of a plain table", 4, ratio("named_decrypt", "plain")),
        *of_searches(measures),
        *of_adoptions(measures),
        *of_application(measures),
    ]


def of_searches(measures: Sequence[Measure]) -> list[Target]:
    found = Figures(measures)
    ratio = found.ratio
    return [
        Target("look-up by token / plain index, small table", 1.2, ratio("search_small", "plain")),
        Target("look-up by token / plain index, large table", 1.2, ratio("search_large", "plain")),
        Target(
            "look-up by token, large table / small table", 1.2, found.ours("search_large") / found.ours("search_small")
        ),
        Target("= ANY of 100 tokens / plain index", 2, ratio("search_any", "plain")),
        Target("IN (SELECT unnest) of 100 tokens / plain index", 2, ratio("search_in", "plain")),
        Target("INSERT with one token / without", 1.25, ratio("search_insert", "plain")),
    ]


def of_adoptions(measures: Sequence[Measure]) -> list[Target]:
    found = Figures(measures)
    ratio = found.ratio
    return [
        Target("scan of old values / pgp_sym_decrypt", 1.3, ratio("adopted_scan", "pgcrypto_pgp")),
        Target("old value of Fernet / cryptography.fernet, CPU", 1.3, ratio("adopted_fernet", "library")),
        Target("old value of node's JSON / an application, CPU", 1.3, ratio("adopted_node_json", "library")),
        Target("converted values / protected view, CPU", 1.06, ratio("adopted_converted", "ours", one="adopted")),
        Target("scan after the adoption / pgp_sym_decrypt", 1 / 10, ratio("adopted_after", "pgcrypto_pgp")),
        Target("old values converted, rows a second of CPU", 10_000, found.ours("adopted_convert"), at_least=True),
    ]


def of_application(measures: Sequence[Measure]) -> list[Target]:
    found = Figures(measures)
    ratio = found.ratio
    return [
        Target("application: seal a value / AES-256-GCM alone", 6, ratio("client_seal", "aesgcm")),
        Target("application: open a value / AES-256-GCM alone", 6, ratio("client_open", "aesgcm")),
        Target("application: open a value / Fernet", 0.75, ratio("client_open", "fernet")),
        Target("application: token of a value / HMAC alone", 3, ratio("client_token", "hmac")),
        Target("application: seal and insert many rows / plain table", 6, ratio("client_bulk", "plain")),
        Target("application: a secret in the cache, µs of CPU", 1, found.ours("secret_cached")),
        Target("application: a secret that is not in the cache, µs", 1000, found.ours("secret_cold")),
        Target("application: seal a file / age, MB/s", 0.9, ratio("file_seal", "age"), at_least=True),
        Target("application: open a file / age, MB/s", 0.9, ratio("file_open", "age"), at_least=True),
        Target("application: open a vector / the same as text", 0.1, ratio("vector_open", "text")),
        Target("application: a vector in the table / the same as text", 0.4, ratio("vector_stored", "text")),
        Target("application: a vector in memory / the same as text", 0.25, ratio("vector_memory", "text")),
    ]
