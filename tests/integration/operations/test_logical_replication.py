"""Logical replication of protected tables between two servers with the same KMS: docs/logical-replication.md."""

from __future__ import annotations

from stack.postgres import Cluster

from .fix_replication import SOURCE, Connection, Subscribe, publisher, source, subscribe, until

__all__ = ["publisher", "source", "subscribe"]

CHECK = "SELECT state, detail FROM envelope.status() WHERE check_name = 'publications'"
ALL = "SELECT id, email FROM customer ORDER BY id"
ROWS = [(i, f"person {i}") for i in range(1, 6)]


def assert_follows(source: Connection, subscriber: Connection) -> None:
    """What was there, what is written since, and what is written under keys that were made since."""
    until(subscriber, ALL, ROWS)
    source.execute("INSERT INTO customer VALUES (6, 'person 6')")
    source.execute("SELECT envelope.rotate('customer')")
    source.execute("INSERT INTO customer VALUES (7, 'person 7')")
    source.execute("UPDATE customer SET email = 'changed' WHERE id = 1")
    source.execute("DELETE FROM customer WHERE id = 2")
    source.execute("CALL envelope.reencrypt('customer')")
    wanted = [(1, "changed"), *((i, f"person {i}") for i in range(3, 8))]
    until(subscriber, ALL, wanted)
    until(subscriber, "SELECT version, state FROM envelope.keys ORDER BY 1", [(1, "decrypt-only"), (2, "active")])


def test_a_table_with_its_keys(
    source: Connection, subscribe: Subscribe, publisher: Cluster, other_cluster: Cluster
) -> None:
    source.execute("CREATE PUBLICATION shop FOR TABLE customer_encrypted")
    source.execute("SELECT envelope.publish_keys('shop'), envelope.publish_keys('shop')")
    assert source.execute(CHECK).fetchall()[0][0] == "ok"
    subscriber = subscribe("shop")
    assert_follows(source, subscriber)
    with other_cluster.connect("subscriber_shop", "owner") as owner:
        assert owner.execute("SELECT email FROM customer WHERE id = 7").fetchall() == [("person 7",)]
    with other_cluster.connect("subscriber_shop", "alice") as alice:
        assert alice.execute("SELECT email FROM customer WHERE id = 7").fetchall() == [("person 7",)]
    # A capability of the publisher would give its rights to whoever reads the subscriber's catalog.
    own, theirs = (
        set(side.execute("SELECT capability FROM envelope_private.capability").fetchall())
        for side in (source, subscriber)
    )
    assert own
    assert theirs
    assert not own & theirs


def test_named_keys_and_subjects_follow(source: Connection, subscribe: Subscribe, other_cluster: Cluster) -> None:
    source.execute("CREATE TABLE note (id int PRIMARY KEY, who text NOT NULL, body text)")
    source.execute("""CALL envelope.protect('note', '["body"]', scope => 'subject', scope_column => 'who')""")
    source.execute("CREATE TABLE secret (name text PRIMARY KEY, value envelope.ciphertext)")
    source.execute("CREATE PUBLICATION shop FOR TABLES IN SCHEMA public")
    source.execute("SELECT envelope.publish_keys('shop')")
    subscriber = subscribe("shop")
    source.execute("INSERT INTO note VALUES (1, 'ada', 'first'), (2, 'bob', 'second')")
    source.execute("SELECT envelope.create_key('later'), envelope.grant_key('later', 'alice')")
    source.execute("INSERT INTO secret VALUES ('s', envelope.encrypt('hidden', 'later', 'here'))")
    source.execute("GRANT SELECT ON secret TO alice")
    until(subscriber, "SELECT who, body FROM note ORDER BY id", [("ada", "first"), ("bob", "second")])
    subscriber.execute("GRANT SELECT ON secret TO alice")
    with other_cluster.connect("subscriber_shop", "alice") as alice:
        until(alice, "SELECT envelope.decrypt(value, 'here') FROM secret", [("hidden",)])


def test_for_all_tables(source: Connection, subscribe: Subscribe) -> None:
    """It cannot leave a table out: status() says what goes along, and the subscriber does not take it."""
    source.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    state, detail = source.execute(CHECK).fetchall()[0]
    assert (state, "everything publishes capabilities" in detail) == ("warning", True)
    subscriber = subscribe("everything")
    assert_follows(source, subscriber)
    sent = source.execute("SELECT capability FROM envelope_private.capability").fetchall()
    assert not set(sent) & set(subscriber.execute("SELECT capability FROM envelope_private.capability").fetchall())


def test_what_administers_keys_works_under_a_publication_for_all_tables(source: Connection) -> None:
    """A published table without replica identity refuses UPDATE and DELETE."""
    source.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    for every in ("90 days", "80 days"):
        source.execute("SELECT envelope.set_schedule('dek', %s)", [every])
    source.execute("SELECT envelope.drop_schedule('dek')")
    source.execute("SELECT envelope.renew_capabilities()")
    without = source.execute(
        "SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'envelope_private'::regnamespace"
        " AND c.relkind = 'r' AND c.relreplident = 'd'"
        " AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)"
    ).fetchall()
    assert without == []


def test_without_its_keys_status_says_so(source: Connection) -> None:
    assert source.execute(CHECK).fetchall()[0][0] == "ok"
    source.execute("CREATE PUBLICATION shop FOR TABLE customer_encrypted")
    state, detail = source.execute(CHECK).fetchall()[0]
    assert (state, "shop publishes public.customer_encrypted without its keys" in detail) == ("warning", True)


def test_a_subscriber_that_only_stores(source: Connection, publisher: Cluster, other_cluster: Cluster) -> None:
    """A table of bytea gets the envelopes as they are: no extension, no key, no plaintext."""
    source.execute("CREATE PUBLICATION shop FOR TABLE customer_encrypted")
    with other_cluster.connect() as connection:
        connection.execute("CREATE DATABASE archive TEMPLATE template0")
    with other_cluster.connect("archive") as archive:
        archive.execute("CREATE TABLE customer_encrypted (id int PRIMARY KEY, email bytea)")
        archive.execute("SET client_min_messages = warning")
        archive.execute(f"CREATE SUBSCRIPTION archive CONNECTION '{publisher.conninfo(SOURCE)}' PUBLICATION shop")
        until(archive, "SELECT count(*) FROM customer_encrypted WHERE substr(email, 1, 2) = '\\xe101'", [(5,)])
        archive.execute("DROP SUBSCRIPTION archive")
    with other_cluster.connect() as connection:
        connection.execute("DROP DATABASE archive WITH (FORCE)")


def test_protect_tells_of_publications_whose_subscribers_will_wait(source: Connection) -> None:
    source.execute("CREATE TABLE invoice (id int PRIMARY KEY, iban text)")
    source.execute("CREATE TABLE other (id int PRIMARY KEY, iban text)")
    source.execute("CREATE PUBLICATION books FOR TABLE invoice")
    told: list[tuple[str | None, str | None]] = []
    source.add_notice_handler(lambda report: told.append((report.severity_nonlocalized, report.message_detail)))
    source.execute("""CALL envelope.protect('other', '["iban"]')""")
    assert told == []
    source.execute("""CALL envelope.protect('invoice', '["iban"]')""")
    assert told == [("WARNING", "books")]
