"""Makes a view read a column with care, as long as some of its envelopes give no value.

It costs a subtransaction for each value to catch an error. So the view of a table without such values does not do it.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.tables import catalog, generate, inspect, locks

IS_CAREFUL = "SELECT pg_get_viewdef($1) LIKE '%envelope\\_internal.has\\_value(%' AS careful"


def follow(host: Host, oid: int) -> None:
    """Makes the view anew, by its base table, for the values in envelope.faults. Warns where the view is in use."""
    key = catalog.key_of(host, oid)
    layout = catalog.layout_of(host, key, inspect.inspect(host, oid))
    (now,) = host.rows(IS_CAREFUL, ["oid"], [key["view"]])
    if not now["careful"] and not any(protected.careful for protected in layout.protected.values()):
        return
    try:
        locks.exclusive(host, layout.view)
    except locks.Locked as error:
        refresh = "CALL envelope.refresh(...) when it is not: then an UPDATE can replace the values that verify found."
        host.warning(f"{layout.view} is in use, and stays as it is", detail=error.detail, hint=refresh)
        return
    host.run(generate.view(layout))
