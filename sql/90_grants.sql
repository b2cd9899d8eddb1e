-- Who may call what. Nothing by default; then what generated views and triggers call for whoever uses them, which
-- each check a right of their own: a capability, a privilege on a column, or the grant of a named key.

REVOKE ALL ON ALL ROUTINES IN SCHEMA envelope FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA envelope_private FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    envelope.bootstrap(), envelope.load_key(), envelope.authorise(), envelope.canonical(anyelement),
    envelope.decrypt_text(envelope.ciphertext, bytea, text), envelope.decrypt_bytea(envelope.ciphertext, bytea, text),
    envelope.encrypt_text(text, bytea, text), envelope.encrypt_bytea(bytea, bytea, text),
    envelope.reseal(envelope.ciphertext, bytea, text),
    envelope.decrypt_text_as_role(envelope.ciphertext, uuid, text),
    envelope.decrypt_bytea_as_role(envelope.ciphertext, uuid, text),
    envelope.encrypt_text_as_role(text, uuid, text), envelope.encrypt_bytea_as_role(bytea, uuid, text),
    envelope.encrypt(text, text, text), envelope.encrypt(bytea, text, text),
    envelope.decrypt(envelope.ciphertext, text), envelope.decrypt_bytea(envelope.ciphertext, text)
    TO PUBLIC;
