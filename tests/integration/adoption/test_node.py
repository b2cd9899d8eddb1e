"""node reads what export wrote as node's JSON."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import import_key

KEY = bytes(range(32)).hex()
PLAIN = ["Zoë 078-05-1120", "", "long " * 500, '{"a": 1}', "😀"]
READ = """
const { createDecipheriv } = require("node:crypto");
const { key, values } = JSON.parse(require("node:fs").readFileSync(0));
const bytes = (text) => Buffer.from(text, "base64");
const read = (value) => {
  const { ciphertext, iv, authTag } = JSON.parse(value);
  const opened = createDecipheriv("aes-256-gcm", Buffer.from(key, "hex"), bytes(iv)).setAuthTag(bytes(authTag));
  return opened.update(bytes(ciphertext), undefined, "utf8") + opened.final("utf8");
};
console.log(JSON.stringify(values.map(read)));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_reads_an_export(db: Database) -> None:
    db.sql("CREATE TABLE patient (id int PRIMARY KEY, ssn text)")
    for number, value in enumerate(PLAIN):
        db.sql("INSERT INTO patient VALUES (%s, %s)", number, value)
    db.sql("CALL envelope.protect('patient', '[\"ssn\"]')")
    import_key(db, "handover", "hex", KEY.encode())
    db.sql("CALL envelope.export('patient', 'ssn', 'node_json', key => 'handover')")
    values = [value for (value,) in db.sql("SELECT ssn FROM patient ORDER BY id")]
    given = json.dumps({"key": KEY, "values": values})
    done = subprocess.run(["node", "-e", READ], input=given, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == PLAIN
