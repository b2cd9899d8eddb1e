-- DDL on a protected table's own name: which tables have exchanged names with their views. Code: sql/59_exchange.sql.

CREATE TABLE envelope_private.exchange (
    base oid PRIMARY KEY,
    view oid NOT NULL,
    view_name name NOT NULL,
    base_name name NOT NULL,
    names name[] NOT NULL,
    numbers smallint[] NOT NULL,
    checks jsonb NOT NULL,
    depth integer NOT NULL DEFAULT 1 CHECK (depth > 0)
);
COMMENT ON TABLE envelope_private.exchange IS
    'one row per base table that has the name of its view now. No row is ever committed, so each session sees its own';
COMMENT ON COLUMN envelope_private.exchange.names IS 'the columns of the view; numbers: the columns of the base table behind them';
COMMENT ON COLUMN envelope_private.exchange.checks IS
    'OIDs by names: constraints that stand on the base table for the CHECKs on plaintext';
COMMENT ON COLUMN envelope_private.exchange.depth IS 'how many commands have begun, one inside the other, and not ended';
