"""Tells in envelope.status() which connections have TLS: clients to the server, and the broker to each KMS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pg_envelope.backend.host import Host, Row
from pg_envelope.typed import Any

SERVER = """
SELECT format('server: ssl %s; clients on the network without TLS: %s; lines of pg_hba.conf that let such clients in:'
        ' %s; hash of new passwords: %s', current_setting('ssl'), clients.count, coalesce(rules.lines, 'none'),
        current_setting('password_encryption')) AS detail, clients.count
FROM (SELECT count(*) FROM pg_catalog.pg_stat_ssl s JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE NOT s.ssl AND NOT a.client_addr <<= '127.0.0.0/8' AND a.client_addr <> '::1') AS clients,
    (SELECT string_agg(DISTINCT line_number::text, ', ') AS lines FROM pg_catalog.pg_hba_file_rules
    WHERE type IN ('host', 'hostnossl', 'hostnogssenc') AND auth_method <> 'reject'
        AND (address = 'localhost' OR address LIKE '127.%' AND netmask LIKE '255.%'
            OR address = '::1' AND netmask = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff') IS NOT TRUE) AS rules"""
HINT = "Turn on ssl, and write hostssl in the place of host in pg_hba.conf: docs/tls.md."


def checks(host: Host, keks: Mapping[str, Any]) -> Iterator[Row]:
    """Yields the rows. `keks` is what the broker says of its KEKs. A client without TLS is a warning."""
    found = host.row(SERVER)
    assert found is not None
    yield _row("tls", found["detail"], HINT if found["count"] else None)
    if keks:
        told = ", ".join(f"{name}: {kek.get('tls') or 'not seen'}" for name, kek in sorted(keks.items()))
        yield _row("tls to the KMS", told, None)


def _row(name: str, detail: str, hint: str | None) -> Row:
    return {"check_name": name, "state": "warning" if hint else "ok", "detail": detail, "hint": hint}
