"""Keeps sealed files as objects of S3, through a client of boto3 that the application makes."""

from __future__ import annotations

import tempfile
from typing import IO, Any, cast

from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.files import SealedReader, seal_file
from pg_envelope_client.sealing.layout import place
from pg_envelope_client.sealing.ranged import RangedFile


class SealedBucket:
    """Sealed objects of one bucket. Names, sizes and times are in the clear. An object opens under its name only."""

    def __init__(self, client: Any, bucket: str, key: NamedKey) -> None:
        """`client` is boto3.client("s3")."""
        self._client, self._bucket, self._key = client, bucket, key

    def write(self, name: str, source: IO[bytes], media_type: str | None = None) -> None:
        """Seals a file, and uploads it. The temporary file holds sealed bytes only. Raises what boto3 raises."""
        with tempfile.TemporaryFile() as sealed:
            seal_file(self._key, source, sealed, self._context(name), media_type=media_type)
            sealed.seek(0)
            self._client.upload_fileobj(sealed, self._bucket, name)

    def open(self, name: str) -> SealedReader:
        """Returns the reader of an object: it fetches the chunks that are read. Raises InvalidEnvelope, and what boto3
        raises, also when the object was replaced meanwhile.
        """
        about = self._client.head_object(Bucket=self._bucket, Key=name)

        def fetch(start: int, count: int) -> bytes:
            wanted = f"bytes={start}-{start + count - 1}"
            found = self._client.get_object(Bucket=self._bucket, Key=name, Range=wanted, IfMatch=about["ETag"])
            return bytes(found["Body"].read())

        file = cast(IO[bytes], RangedFile(about["ContentLength"], fetch))
        return SealedReader(self._key, file, self._context(name))

    def _context(self, name: str) -> str:
        return place("s3", self._bucket, name)
