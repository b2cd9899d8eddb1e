"""Places that keep sealed files: a table of PostgreSQL, a bucket of S3, a storage of Django; and an HTTP answer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, storages
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from pg_envelope import errors
from pg_envelope_client import NamedKey
from pg_envelope_client.django.storage import SealedStorage
from pg_envelope_client.sealing import streaming
from pg_envelope_client.sealing.bucket import SealedBucket
from pg_envelope_client.sealing.file_table import PART, FileTable
from pg_envelope_client.sealing.files import CHUNK
from tests.fix_django import configure
from tests.integration.sealing.fix_door import DoorOfTests

CONTENT = os.urandom(3 * CHUNK + 77)
SIZES = [0, 1, CHUNK, PART + 1, len(CONTENT)]


@pytest.fixture
def key(door: DoorOfTests) -> NamedKey:
    door.db.sql("SELECT envelope.create_key('files', store => 'catalog')")
    door.allow(door.db.one("SELECT envelope.grant_client_key('files', 'alice')"))
    return door.client().named("files")


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except errors.InvalidEnvelope:
        return True
    return False


def test_a_table_of_parts(door: DoorOfTests, key: NamedKey) -> None:
    connection = door.db.connect("owner")
    table = FileTable(connection, key, "public", "Odd files")
    table.create()
    for size in SIZES:
        table.write(f"f{size}", io.BytesIO(CONTENT[:size]), "image/png")
        reader = table.open(f"f{size}")
        assert (reader.size, reader.media_type, reader.read()) == (size, "image/png", CONTENT[:size])
        reader.seek(max(0, size - 10))
        assert reader.read(5) == CONTENT[max(0, size - 10) : size][:5]
    assert {row[0] for row in connection.execute('SELECT length(content) FROM "Odd files" WHERE part = 0')} >= {PART}
    with pytest.raises(psycopg.errors.UniqueViolation):
        table.write("f1", io.BytesIO(b"again"))
    assert table.open("f1").read() == CONTENT[:1]
    assert [table.delete("f1"), table.delete("f1")] == [True, False]
    with pytest.raises(errors.KeyNotFound):
        table.open("f1")
    big = f"f{len(CONTENT)}"
    for damage in (
        "UPDATE {} SET part = part + 1 WHERE name = %s AND part = 3",
        "DELETE FROM {} WHERE name = %s AND part = 1",
        "UPDATE {} SET part = 9 - part WHERE name = %s",
        "UPDATE {} SET content = content || '\\x00' WHERE name = %s AND part = 0",
        "UPDATE {} SET content = set_byte(content, 99, 255 - get_byte(content, 99)) WHERE name = %s AND part = 2",
    ):
        with connection.transaction(force_rollback=True):
            connection.execute(damage.format('"Odd files"'), [big])  # type: ignore[arg-type]
            assert refused(lambda: table.open(big).read()), damage
    connection.execute("UPDATE \"Odd files\" SET name = 'moved' WHERE name = %s", [big])
    assert refused(lambda: table.open("moved"))


def test_a_write_that_breaks_off_leaves_nothing(door: DoorOfTests, key: NamedKey) -> None:
    class Breaks(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > CHUNK:
                raise ConnectionError
            return super().read(size)

    connection = door.db.connect("owner")
    table = FileTable(connection, key, "files")
    table.create()
    with pytest.raises(ConnectionError):
        table.write("a", Breaks(CONTENT))
    assert connection.execute("SELECT count(*) FROM files").fetchone() == (0,)


@pytest.fixture
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **options)
    try:
        client.create_bucket(Bucket="files-7")
        yield client
    finally:
        client.close()
        server.stop()


def test_a_bucket(s3: Any, key: NamedKey) -> None:
    bucket = SealedBucket(s3, "files-7", key)
    for size in SIZES:
        bucket.write("in/é", io.BytesIO(CONTENT[:size]), "text/plain")
        reader = bucket.open("in/é")
        assert (reader.size, reader.media_type, reader.read()) == (size, "text/plain", CONTENT[:size])
    raw = s3.get_object(Bucket="files-7", Key="in/é")["Body"].read()
    assert CONTENT[:40] not in raw
    s3.put_object(Bucket="files-7", Key="moved", Body=raw)
    s3.put_object(Bucket="files-7", Key="cut", Body=raw[:-1])
    assert [refused(lambda name=name: bucket.open(name)) for name in ("moved", "cut")] == [True, True]  # type: ignore[misc]
    reader = bucket.open("in/é")
    bucket.write("in/é", io.BytesIO(CONTENT[::-1]))
    with pytest.raises(s3.exceptions.ClientError):
        reader.read(10)


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    configure()
    inner = FileSystemStorage(location=tmp_path)
    monkeypatch.setitem(storages._storages, "sealed", inner)
    return tmp_path


def test_a_storage_of_django(media: Path, key: NamedKey) -> None:
    storage = SealedStorage(lambda: key)
    name = storage.save("in/scan.pdf", ContentFile(CONTENT))
    assert (name, storage.exists(name), storage.size(name)) == ("in/scan.pdf", True, len(CONTENT))
    other = storage.save("in/scan.pdf", ContentFile(b""))
    assert other != name
    with storage.open(name) as file:
        assert file.read() == CONTENT
        file.seek(-7, os.SEEK_END)
        assert file.read() == CONTENT[-7:]
    with storage.open(other) as file:
        assert (file.read(), file.size) == (b"", 0)
    assert CONTENT[:40] not in (media / name).read_bytes()
    (media / "moved").write_bytes((media / name).read_bytes())
    assert refused(lambda: storage.open("moved"))
    assert sorted(storage.listdir("in")[1]) == sorted(Path(one).name for one in (name, other))
    for call in (lambda: storage.open(name, "wb"), lambda: storage.url(name)):
        with pytest.raises(errors.Unsupported):
            call()
    storage.delete(name)
    assert not storage.exists(name)


def test_an_answer_in_parts(door: DoorOfTests, key: NamedKey) -> None:
    table = FileTable(door.db.connect("owner"), key, "files")
    table.create()
    table.write("a", io.BytesIO(CONTENT))
    for start, stop in [(0, None), (5, CHUNK + 9), (CHUNK, 2 * CHUNK), (len(CONTENT), None), (9, 9), (3, 10**9)]:
        found = list(streaming.parts(table.open("a"), start, stop))
        assert b"".join(found) == CONTENT[start:stop]
        assert all(0 < len(part) <= CHUNK for part in found)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_header(size: int, first: int, last: int) -> None:
    content = bytes(range(size))
    forms = {f"bytes={first}-{last}": content[first : last + 1], f"bytes={first}-": content[first:]}
    forms[f"bytes=-{last}"] = content[max(0, size - last) :]
    for header, wanted in forms.items():
        if wanted:
            assert (found := streaming.byte_range(header, size)) is not None
            assert content[found[0] : found[1]] == wanted
        else:
            with pytest.raises(ValueError, match="outside"):
                streaming.byte_range(header, size)


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=1-2,3-4", "items=1-2", "bytes=a-b", "bytes=--1"])
def test_what_is_no_single_range_is_the_whole_file(header: str | None) -> None:
    assert streaming.byte_range(header, 10) is None
