"""Every entry of the extension, in statements that hold no value: neither as text nor as a parameter.

The values come by binary COPY, into a temporary table `given`. So whatever the server's log shows of them, the package
or its generated code has put there.
"""

from __future__ import annotations

from collections.abc import Iterator

SINCE_17, SINCE_18 = 170000, 180000
# A superuser's settings, in the session of the sweep: all that PostgreSQL can write about a statement. An older server
# does not have each of them.
SETTINGS = {
    "log_statement": "all",
    "log_min_messages": "debug1",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "auto_explain.log_parameter_max_length": "-1",
    "auto_explain.log_verbose": "on",
    # Without times, equal plans are equal lines.
    "auto_explain.log_timing": "off",
    "track_functions": "all",
}
GIVEN = "id int4, tenant text, email text, note text, secret text"
TABLES = """
CREATE SCHEMA swept;
SET search_path = swept, public;
CREATE FUNCTION fits(text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN length($1) > 3; END';
CREATE FUNCTION count_row() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.seen := coalesce(NEW.seen, 0) + 1; RETURN NEW; END';
CREATE TYPE pair AS (first text, second text);
CREATE DOMAIN words AS text[] CHECK (array_length(VALUE, 1) < 9);
CREATE TABLE bare (id int PRIMARY KEY, tenant text NOT NULL, email text NOT NULL CHECK (email LIKE '%@%'),
    note text COLLATE "C" CHECK (note IS DISTINCT FROM 'none'), seen int UNIQUE,
    raw bytea);
CREATE TABLE coded (LIKE bare INCLUDING ALL, CHECK (fits(note)));
CREATE TRIGGER counted BEFORE INSERT OR UPDATE ON coded FOR EACH ROW EXECUTE FUNCTION count_row();
ALTER TABLE coded DROP CONSTRAINT coded_seen_key;
CREATE TABLE own (LIKE bare INCLUDING ALL);
ALTER TABLE own ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON own USING (true);
CREATE TABLE by_tenant (LIKE bare INCLUDING ALL);
CREATE TABLE by_subject (LIKE bare INCLUDING ALL);
CREATE TABLE kinds (id int PRIMARY KEY, list text[], both_of pair, few words, doc xml, raw bytea, bin jsonb);
CREATE TABLE filled (id int PRIMARY KEY, note text, raw bytea);
CREATE TABLE login (id int PRIMARY KEY, secret text);
CREATE TABLE docs (id int PRIMARY KEY, doc jsonb);
CREATE TABLE sums (id int PRIMARY KEY, amount numeric);
CREATE TEMP TABLE kept (id int, what text, value bytea);
"""
PROTECT = (
    "INSERT INTO filled SELECT id, secret, secret::bytea FROM given",
    """CALL envelope.protect('filled', '["note", "raw"]')""",
    *(f"""CALL envelope.protect('{table}', '["email", "note", "raw"]')""" for table in ("bare", "coded", "own")),
    """CALL envelope.protect('by_tenant', '["email", "note", "raw"]', scope => 'tenant', scope_column => 'tenant')""",
    """CALL envelope.protect('by_subject', '["email", "note", "raw"]', scope => 'subject', scope_column => 'id')""",
    """CALL envelope.protect('kinds', '["list", "both_of", "few", "doc", "raw", "bin"]')""",
)
# A number that stands for a secret of `given`.
AMOUNT = "('x' || substr(md5(g.secret), 1, 13))::bit(52)::bigint::numeric"
# A trigger that asks for the row in the clear, as the docs advise.
READS_ITSELF = """
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.seen := length(concat(swept.coded_envelope_clear(NEW))); RETURN NEW; END $$;
CREATE TRIGGER looks BEFORE INSERT OR UPDATE ON coded_encrypted FOR EACH ROW EXECUTE FUNCTION look();
"""
WRITTEN = ("bare", "coded", "own", "by_tenant", "by_subject")


def table_statements(table: str, version: int) -> Iterator[str]:
    """Reads and writes of a protected table; what fails is meant to fail with the values at hand."""
    insert = f"INSERT INTO {table} (id, tenant, email, note)"
    yield f"{insert} SELECT id, tenant, email, note FROM given WHERE id < 6"
    yield f"UPDATE {table} t SET note = g.note || '+' FROM given g WHERE g.id = t.id RETURNING t.seen"
    yield f"UPDATE {table} t SET raw = g.note::bytea FROM given g WHERE g.id = t.id RETURNING length(raw)"
    yield f"UPDATE {table} t SET id = 100 + t.id WHERE id = 2"
    yield (
        f"WITH updated AS (UPDATE {table} t SET note = g.secret FROM given g WHERE t.id = g.id RETURNING t.id)"
        f" {insert} SELECT id, tenant, email, secret FROM given g"
        " WHERE NOT EXISTS (SELECT FROM updated u WHERE u.id = g.id)"
    )
    yield f"{insert} SELECT id, tenant, email, note FROM given ON CONFLICT DO NOTHING"
    yield f"CALL envelope.allow_upsert('{table}')"
    for assigned in ("note = excluded.note", "email = excluded.note", "note = NULL WHERE tenant = 'none'"):
        yield (
            f"INSERT INTO {table}_upsert (id, tenant, email, note) SELECT id, tenant, email, secret FROM given"
            f" ON CONFLICT (id) DO UPDATE SET {assigned}"
        )
    yield f"INSERT INTO {table}_upsert (id, tenant, email, note) SELECT id, tenant, note, NULL FROM given"
    yield (
        f"INSERT INTO {table}_upsert (id, tenant, email, note) SELECT id, tenant, id::float8, id::float4 FROM given"
        " ON CONFLICT (id) DO UPDATE SET note = excluded.note"
    )
    yield f"CALL envelope.drop_upsert('{table}')"
    yield f"{insert} SELECT 70 + id, tenant, replace(email, '@', ''), note FROM given"
    yield f"{insert} SELECT 70 + id, tenant, NULL, note FROM given"
    yield f"{insert} SELECT 70, tenant, email, secret FROM given"
    yield f"UPDATE {table} SET note = 'none'"
    yield f"UPDATE {table} t SET email = g.note FROM given g WHERE g.id = t.id"
    yield f"UPDATE {table} t SET note = g.note, seen = 1 / (t.id - t.id) FROM given g WHERE g.id = t.id"
    yield f"UPDATE {table} t SET email = upper(email) WHERE note IN (SELECT secret FROM given) RETURNING id"
    yield f"CREATE TEMP TABLE read_{table} AS SELECT * FROM {table}"
    yield f"SELECT count(*) FROM {table} t JOIN given g ON g.email = t.email AND t.note > g.secret"
    yield f"EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM {table} WHERE note = (SELECT min(note) FROM given)"
    yield f"SELECT id FROM {table} FOR UPDATE NOWAIT"
    yield f"DO 'BEGIN PERFORM count(note) FROM {table}; UPDATE {table} SET note = note || ''!''; END'"
    yield f"DECLARE reader CURSOR WITH HOLD FOR SELECT email FROM {table}; MOVE ALL FROM reader; CLOSE reader"
    if version >= SINCE_17:
        merge = f"MERGE INTO {table} t USING given g ON t.id = g.id"
        yield (
            f"{merge} WHEN MATCHED THEN UPDATE SET note = g.note WHEN NOT MATCHED THEN"
            " INSERT (id, tenant, email, note) VALUES (g.id, g.tenant, g.email, g.secret) RETURNING t.id"
        )
        yield f"{merge} AND g.id = 3 WHEN MATCHED THEN DELETE RETURNING merge_action()"
    if version >= SINCE_18:
        yield f"UPDATE {table} SET note = note || '-' RETURNING length(old.note), length(new.note)"
    yield f"DELETE FROM {table} t USING given g WHERE t.id = g.id AND t.note = g.secret AND g.id = 4 RETURNING t.id"
    yield f"UPDATE {table}_encrypted SET id = id + 1000 WHERE id = 5"
    yield f"INSERT INTO {table}_encrypted (id, tenant, email, note) SELECT id, tenant, email, note FROM given"


KINDS = (
    "INSERT INTO kinds SELECT id, ARRAY[note, email], ROW(note, secret)::pair, ARRAY[email]::words,"
    " xmlelement(name a, note), note::bytea, to_jsonb(given) FROM given",
    "UPDATE kinds k SET list = list || g.secret, few = few || g.secret FROM given g WHERE g.id = k.id",
    "CREATE TEMP TABLE read_kinds AS SELECT * FROM kinds",
    "UPDATE kinds SET list = array_fill(list[1], ARRAY[1]), few = array_fill(list[1], ARRAY[9])",
)
NAMED = (
    "SELECT envelope.create_key('swept'), envelope.create_secret('phrase')",
    "SELECT envelope.import_secret('given', secret) FROM given WHERE id = 1",
    "SELECT envelope.import_secret('raw', secret::bytea) FROM given WHERE id = 1",
    "SELECT envelope.replace_secret('given', secret) FROM given WHERE id = 2",
    "SELECT envelope.replace_secret('raw', secret::bytea) FROM given WHERE id = 2",
    "SELECT envelope.replace_secret('phrase')",
    "INSERT INTO kept SELECT id, 'text', envelope.encrypt(note, 'swept', email) FROM given",
    "INSERT INTO kept SELECT id, 'bytes', envelope.encrypt(note::bytea, 'swept', email) FROM given",
    "CREATE TEMP TABLE named AS SELECT envelope.decrypt(k.value, g.email) AS a FROM kept k JOIN given g USING (id)"
    " WHERE what = 'text'",
    "CREATE TEMP TABLE named_bytes AS SELECT envelope.decrypt_bytea(k.value, g.email) AS a FROM kept k"
    " JOIN given g USING (id) WHERE what = 'bytes'",
    "SELECT envelope.decrypt(k.value, g.note) FROM kept k JOIN given g USING (id)",
    "SELECT envelope.decrypt(g.note::bytea::envelope.ciphertext) FROM given g",
    "SELECT envelope.encrypt(note, 'no such key') FROM given",
    "SELECT envelope.rotate_key('swept'), envelope.rotate_key('phrase'), envelope.reseal_secret('phrase')",
    "SELECT envelope_internal.decrypt_text(value, secret::bytea, note) FROM kept JOIN given USING (id)",
    "SELECT envelope_internal.encrypt_text(note, secret::bytea, email) FROM given",
)
PGCRYPTO = (
    "INSERT INTO kept SELECT id, 'pgp', pgp_sym_encrypt(note, {key}) FROM given",
    "INSERT INTO kept SELECT id, 'pgp bytes', pgp_sym_encrypt_bytea(note::bytea, {key}, 's2k-mode=1') FROM given",
    "CREATE TEMP TABLE pgp AS SELECT pgp_sym_decrypt(value, {key}) AS a FROM kept JOIN given USING (id)"
    " WHERE what = 'pgp'",
    "SELECT count(pgp_sym_decrypt_bytea(value, {key})) FROM kept JOIN given USING (id) WHERE what LIKE 'pgp%'",
    "SELECT pgp_sym_decrypt(note::bytea, {key}) FROM given",
    "SELECT count(hmac(note, {key}, 'sha256')), count(hmac(note::bytea, {key}::bytea, 'md5')) FROM given",
    "INSERT INTO kept SELECT id, 'raw', encrypt(note::bytea, {key}::bytea, 'aes') FROM given",
    "SELECT count(decrypt(value, {key}::bytea, 'aes')) FROM kept JOIN given USING (id) WHERE what = 'raw'",
    "SELECT encrypt_iv(note::bytea, {key}::bytea, email::bytea, 'no such') FROM given",
    "SELECT decrypt_iv(note::bytea, {key}::bytea, email::bytea, 'aes') FROM given",
    "SELECT pgp_pub_encrypt(note, secret::bytea) FROM given",
    "SELECT pgp_pub_encrypt_bytea(note::bytea, secret::bytea) FROM given",
    "SELECT pgp_pub_decrypt(note::bytea, {key}::bytea, {key}) FROM given",
    "SELECT pgp_pub_decrypt_bytea(note::bytea, {key}::bytea, {key}) FROM given",
    "SELECT count(digest(note, 'sha256')), count(armor(note::bytea)), count(dearmor(armor(note::bytea))) FROM given",
    # Constants for the planner, which asks for them while it estimates how many rows there are.
    "SELECT count(*) FROM given WHERE secret = hmac('x', envelope.secret('phrase'), 'md5')::text",
    "SELECT count(*) FROM given WHERE secret = envelope.secret('phrase')::text",
)
# Literal keys, keys by name, and keys by name where others are forbidden.
KEYS = (("secret", False), ("envelope.secret('phrase')", False), ("envelope.secret('phrase')", True))
# What other software encrypted: pgcrypto's format, under a passphrase that is one of the values.
PHRASE = "(SELECT secret FROM given WHERE id = 1)"
SEALED_BEFORE = f"envelope_pgcrypto.pgp_sym_encrypt(note, {PHRASE})"
ADOPTED = (
    "SELECT envelope.import_legacy_key('old', 'text', secret::bytea) FROM given WHERE id = 1",
    "CREATE TABLE swept.old_text (id int PRIMARY KEY, note text)",
    "CREATE TABLE swept.old_bytes (id int PRIMARY KEY, note bytea)",
    "CREATE TABLE swept.old_coded (id int PRIMARY KEY, note text, seen int)",
    "CREATE TRIGGER counted BEFORE INSERT OR UPDATE ON swept.old_coded FOR EACH ROW EXECUTE FUNCTION swept.count_row()",
    f"INSERT INTO swept.old_text SELECT id, envelope_pgcrypto.armor({SEALED_BEFORE}) FROM given",
    f"INSERT INTO swept.old_coded SELECT id, envelope_pgcrypto.armor({SEALED_BEFORE}) FROM given",
    f"INSERT INTO swept.old_bytes SELECT id, {SEALED_BEFORE} FROM given",
    "SELECT count(*) FROM envelope.inspect('swept.old_text', 'note', 'old')",
    "CALL envelope.adopt('swept.old_text', 'note', 'pgp_sym', 'old')",
    "CALL envelope.adopt('swept.old_coded', 'note', 'pgp_sym', 'old', type => 'bytea')",
    "CALL envelope.adopt('swept.old_bytes', 'note', 'pgp_sym', 'old', type => 'bytea')",
    "CREATE TEMP TABLE read_old AS SELECT note FROM swept.old_text",
    "CREATE TEMP TABLE read_old_bytes AS SELECT note FROM swept.old_bytes UNION SELECT note FROM swept.old_coded",
    *(
        statement.format(table=table)
        for table in ("old_text", "old_coded", "old_bytes")
        for statement in (
            "UPDATE swept.{table} t SET note = t.note || t.note WHERE id = 1",
            "INSERT INTO swept.{table} (id, note) SELECT 100 + id, note FROM swept.{table} WHERE id < 3",
            "UPDATE swept.{table}_encrypted SET note_legacy = 'broken' WHERE id = 3",
            "SELECT count(note) FROM swept.{table}",
            "CALL envelope.convert('swept.{table}')",
            "CALL envelope.finish_adoption('swept.{table}')",
            "DELETE FROM swept.{table} WHERE id = 3",
            "CALL envelope.finish_adoption('swept.{table}')",
        )
    ),
    "SELECT count(*) FROM envelope.adoption",
    "SELECT envelope.import_legacy_key('handed', 'text', secret::bytea) FROM given WHERE id = 2",
    "SELECT envelope.import_legacy_key('hashed', 'hex', encode(sha256(secret::bytea), 'hex')::bytea) FROM given"
    " WHERE id = 2",
    "CALL envelope.export('swept.old_text', 'note', 'pgp_sym', 'handed')",
    "CALL envelope.export('swept.old_bytes', 'note', 'node_json', 'hashed')",
)
PASSWORDS = (
    "INSERT INTO login SELECT id, secret FROM given WHERE id < 3",
    "CALL envelope.hash_passwords('login', 'secret')",
    "CREATE TEMP TABLE hashes AS SELECT id, secret AS hash FROM login",
    "INSERT INTO hashes SELECT id, envelope.hash_password(secret, 'argon2id') FROM given WHERE id < 3",
    "INSERT INTO hashes SELECT id, crypt(secret, gen_salt('md5')) FROM given WHERE id < 3",
    "SELECT envelope.verify_password(g.secret, h.hash), envelope.password_needs_rehash(h.hash)"
    " FROM given g JOIN hashes h USING (id)",
    "SELECT envelope.verify_password(secret, secret), envelope.hash_password(secret, secret) FROM given",
    "SELECT envelope.verify_password(secret, '$2a$31$' || repeat('x', 53)) FROM given",
)
PROCEDURES = (
    *(f"SELECT envelope.rotate('{table}')" for table in ("bare", "coded", "own", "kinds")),
    "SELECT envelope.rotate_field('bare', 'note')",
    *(f"CALL envelope.reencrypt('{table}', 3)" for table in (*WRITTEN, "kinds")),
    *(f"CALL envelope.verify('{table}')" for table in (*WRITTEN, "kinds")),
    *(f"CALL envelope.refresh('{table}')" for table in (*WRITTEN, "kinds")),
    """CALL envelope.add_search('bare', 'note', '{"exact": {"as": "note_found", "force": true}}')""",
    "SELECT count(*) FROM bare b JOIN given g ON b.note_found = g.note",
    "CALL envelope.rotate_search('bare', 'note', 'note_found', 'casefold')",
    "SELECT count(*) FROM bare b JOIN given g ON b.note_found = g.note",
    "CALL envelope.drop_search('bare', 'note', 'note_found')",
    """CALL envelope.add_search('bare', 'note', '{"match": {"force": true}}')""",
    "SELECT count(*) FROM bare b JOIN given g ON b.note_match @> g.note",
    "SELECT count(*) FROM bare b JOIN given g ON b.note_match @> left(g.note, 1)",
    "SELECT count(*) FROM bare b JOIN given g ON b.note_match @> (g.note || '\\') AND b.note LIKE g.note || '\\'",
    "UPDATE bare b SET note = g.note || repeat(g.secret, 50) FROM given g WHERE g.id = b.id",
    "CALL envelope.rotate_search('bare', 'note', 'note_match')",
    f"INSERT INTO sums SELECT id, {AMOUNT} FROM given g",
    """CALL envelope.protect('sums', '{"amount": {"search": {"range": {"bucket": 100000000000, "force": true}}}}')""",
    f"UPDATE sums s SET amount = {AMOUNT} + 1 FROM given g WHERE g.id = s.id",
    f"SELECT count(*) FROM sums s JOIN given g ON s.amount_range <@ numrange({AMOUNT}, NULL) AND s.amount > {AMOUNT}",
    f"SELECT count(*) FROM sums s JOIN given g ON s.amount_range <@ numrange({AMOUNT} + 1, {AMOUNT})",
    "SELECT count(*) FROM sums WHERE amount_range <@ numrange(amount, amount, '[]')",
    "CALL envelope.rotate_search('sums', 'amount', normalizer => 'range-5')",
    "INSERT INTO docs SELECT id, jsonb_build_object('a', jsonb_build_array(secret, note)) FROM given",
    """CALL envelope.protect('docs', '{"doc": {"search": {"contains": {"force": true}}}}')""",
    "UPDATE docs d SET doc = jsonb_build_object(g.secret, g.secret) FROM given g WHERE g.id = d.id AND g.id < 5",
    "UPDATE docs d SET doc = (repeat('[', 300) || '{\"a\": \"' || g.secret || '\"}' || repeat(']', 300))::jsonb"
    " FROM given g WHERE g.id = d.id AND g.id > 6",
    "SELECT count(*) FROM docs d JOIN given g ON d.doc_contains @> jsonb_build_object(g.secret, g.note)",
    "SELECT count(*) FROM docs d JOIN given g ON d.doc_contains @> d.doc AND d.doc @> jsonb_build_object(g.secret, 1)",
    "SELECT count(*) FROM docs d JOIN given g ON NOT d.doc_contains @> jsonb_build_object(g.secret, g.note)",
    "CALL envelope.verify('bare')",
    "CALL envelope.rotate_emergency('bare', 'a reason')",
    "SELECT envelope.prefetch('by_tenant', ARRAY['acme'])",
    "CALL envelope.suspend('by_tenant', 'acme', 'a reason')",
    "SELECT count(note) FROM by_tenant",
    "CALL envelope.unsuspend('by_tenant', 'acme')",
    "CALL envelope.shred('by_subject', '1', 'a reason')",
    "SELECT count(note) FROM by_subject",
    "CALL envelope.suspend_key('swept', 'a reason')",
    "CALL envelope.unsuspend_key('swept')",
    "CALL envelope.retire('bare', 1)",
    "CALL envelope.rotate_kek('default')",
    "CALL envelope.rewrap('default')",
    "CALL envelope.rotate_due(true)",
    "SELECT envelope.renew_capabilities()",
    "SELECT envelope.flush('a reason')",
    "SELECT count(*) FROM envelope.status()",
    # Values that do not open: one row's envelope in another's place.
    "UPDATE filled_encrypted SET note = (SELECT max(note) FROM filled_encrypted)",
    "SELECT count(note) FROM filled",
    "CALL envelope.verify('filled')",
    "SELECT verdict FROM envelope.search_advice('filled', 'note')",
    "CALL envelope.unprotect('filled')",
    "UPDATE filled f SET note = g.secret FROM given g WHERE g.id = f.id",
    # Of this table alone: afterwards, files and WAL hold its values.
    "CALL envelope.unprotect('filled')",
)
# Capabilities, seals, secrets, and what searches compare: none of them is in a log either.
UNLOGGED = """
SELECT encode(capability, 'hex') FROM envelope_private.capability
UNION ALL SELECT encode(seal, 'hex') FROM envelope_private.capability WHERE seal IS NOT NULL
UNION ALL SELECT envelope.secret(name, version)::text FROM envelope.secrets WHERE name <> 'raw'
UNION ALL SELECT hash FROM hashes
UNION ALL SELECT note_match::text FROM swept.bare_encrypted WHERE note_match IS NOT NULL
UNION ALL SELECT amount_range::text FROM swept.sums_encrypted WHERE amount_range IS NOT NULL
UNION ALL SELECT doc_contains::text FROM swept.docs_encrypted WHERE length(doc_contains::text) > 1
UNION ALL SELECT amount::text FROM swept.sums UNION ALL SELECT (amount - 1)::text FROM swept.sums"""
# Functions that take neither a value of a table in the clear nor a secret, and that nothing above calls.
WITHOUT_VALUES = frozenset(
    "bootstrap is_harmless opens abort acts_on_itself adopt_restored compromise compromise_key drop_schedule "  # noqa: SIM905
    "forget_all_keys forget_backup grant_client grant_client_key grant_client_search grant_key "
    "grant_search keep_backup kek_versions mend_sequences move_kek pause plan protect_tables publish_keys "
    "receipt revoke_client revoke_client_key revoke_client_search register_backup finish_backup "
    "store_secret rekey replay_erasures resume revocation revoke_key set_audit set_audit_key set_limit "
    "set_schedule shred_audit shred_dropped shred_key sign_report signing_keys tenant_kek "
    "this_is_the_original verify_keys fips_mode begin_command begin_ddl end_ddl names_protected "
    "slow_reads mask_of sees_mask gen_random_bytes gen_random_uuid pgp_armor_headers pgp_key_id relations "
    "truncate plant_canary remove_canary changes_tables".split()
)
MASKS = (
    "SELECT envelope.mask('filled', 'note', 'public', 'hash', '{\"secret\": \"phrase\"}')",
    "SELECT envelope.mask('filled', 'raw', 'public', 'null'), envelope.mask('filled', 'note', 'alice', 'partial',"
    ' \'{"first": 1, "last": 1}\')',
    "SELECT count(note), count(raw) FROM filled WHERE note > ''",
    "SELECT count(envelope_internal.shown_as(b.note, c.capability || uuid_send(envelope_internal.mask_of(c.field_uuid,"
    " current_user)), b.id::text, c.field_uuid))"
    " FROM filled_encrypted b, envelope.columns k JOIN envelope_private.capability c USING (field_uuid)"
    " WHERE k.relation = 'filled'::regclass AND k.column = 'note'",
    "GRANT USAGE ON SCHEMA swept TO alice; GRANT SELECT, UPDATE ON filled TO alice",
    "SET ROLE alice; UPDATE filled SET note = note, raw = raw RETURNING note; TABLE filled; RESET ROLE",
    "SELECT count(*) FROM envelope.access() WHERE relation = 'filled'::regclass",
    "SELECT envelope.unmask('filled', 'note'), envelope.unmask('filled', 'raw')",
)
DROPPED = "DROP SCHEMA swept CASCADE"


def statements(version: int) -> Iterator[str]:
    yield from PROTECT
    yield READS_ITSELF
    for table in WRITTEN:
        yield from table_statements(table, version)
    yield from KINDS
    yield from NAMED
    yield from MASKS
    yield "SET search_path = swept, public, envelope_pgcrypto"
    for key, forbidden in KEYS:
        yield f"SELECT envelope.forbid_literal_keys({forbidden})"
        yield from (statement.format(key=key) for statement in PGCRYPTO)
        yield "DELETE FROM kept WHERE what IN ('pgp', 'pgp bytes', 'raw'); DROP TABLE IF EXISTS pgp"
    yield "SELECT envelope.forbid_literal_keys(false)"
    yield from ADOPTED
    yield from PASSWORDS
    yield from PROCEDURES
