"""Holds the SQL of `pg-envelope residue`."""

from __future__ import annotations

from pg_envelope_client.statements import Query

PLACES = Query(
    "SELECT current_setting('data_directory') AS data, current_setting('log_directory') AS log,"
    " ARRAY(SELECT pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_')"
    " AS tablespaces"
)
RELATIONS = Query(
    "SELECT pg_catalog.pg_relation_filepath(c.oid) AS path,"
    " coalesce('TOAST of ' || t.oid::regclass::text, c.oid::regclass::text) AS name FROM pg_catalog.pg_class c"
    " LEFT JOIN pg_catalog.pg_class t ON t.reltoastrelid = c.oid"
    " WHERE pg_catalog.pg_relation_filepath(c.oid) IS NOT NULL"
)
TEXTS = Query(
    "SELECT 'statistics' AS kind, format('%%I.%%I.%%I', schemaname, tablename, attname) AS place,"
    " concat(most_common_vals::text, histogram_bounds::text, most_common_elems::text) AS content"
    " FROM pg_catalog.pg_stats WHERE schemaname <> 'pg_catalog' UNION ALL"
    " SELECT 'last statement', 'session ' || pid, query FROM pg_catalog.pg_stat_activity"
    " WHERE query <> '' AND pid <> pg_catalog.pg_backend_pid()"
)
STATEMENTS = Query(
    "SELECT 'pg_stat_statements' AS kind, 'query ' || queryid AS place, query AS content FROM pg_stat_statements"
    " WHERE query IS NOT NULL"
)
BEGIN, COMMIT = Query("BEGIN"), Query("COMMIT")
PINNED = Query("SET LOCAL search_path = pg_catalog, pg_temp")
CHECKPOINT = Query("CHECKPOINT")


def columns_of(table: str) -> Query:
    return Query(
        "SELECT n.nspname::text AS schema, v.relname::text AS relation, c.column::text AS name, c.type,"
        " greatest(b.reltuples, 0) AS rows, c.relation::oid AS oid"
        " FROM envelope.columns c JOIN pg_catalog.pg_class v ON v.oid = c.relation"
        " JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace JOIN pg_catalog.pg_class b ON b.oid = c.base_table"
        " WHERE c.relation = %s::regclass",
        (table,),
    )


def harmless(view: int) -> Query:
    return Query("SELECT envelope_private.is_harmless(%s::oid::regclass) AS result", (view,))


def plant(mark: str) -> Query:
    """Writes a mark into WAL, where a search must find it. It changes nothing.

    A head of a WAL page can cut a mark in two, but not two marks that stand one behind the other.
    """
    return Query(
        "SELECT pg_catalog.pg_logical_emit_message(false, 'pg-envelope', %s::text) FROM generate_series(1, 2)", (mark,)
    )
