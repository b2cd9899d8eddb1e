"""A storage for Django that seals each file before another storage keeps it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import Storage, storages
from django.utils.module_loading import import_string

from pg_envelope import errors
from pg_envelope_client.sealing.client import NamedKey
from pg_envelope_client.sealing.files import SealedReader, seal_file
from pg_envelope_client.sealing.layout import place


class OwningReader(SealedReader):
    """Closes the file underneath with itself, and when that does not open."""

    def __init__(self, key: NamedKey, file: IO[bytes], context: str) -> None:
        self._owned = file
        try:
            super().__init__(key, file, context)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        self._owned.close()
        super().close()


class SealedStorage(Storage):
    """`inner` is the alias of the storage that keeps the sealed files. `key` is a function, or the dotted name of one,
    that returns the named key. A file opens under its name only.
    """

    def __init__(self, key: str | Callable[[], NamedKey], inner: str = "sealed") -> None:
        self._make_key, self._alias = key, inner

    @property
    def _inner(self) -> Any:
        return storages[self._alias]

    def _key(self) -> NamedKey:
        found: Callable[[], NamedKey] = (
            import_string(self._make_key) if isinstance(self._make_key, str) else self._make_key
        )
        return found()

    def _reader(self, name: str) -> OwningReader:
        return OwningReader(self._key(), self._inner.open(name, "rb"), _context(name))

    def _open(self, name: str, mode: str = "rb") -> Any:
        if mode != "rb":
            raise errors.Unsupported("a sealed file is read, or written whole", hint="storage.save(name, content)")
        return File(self._reader(name), name)

    def _save(self, name: str, content: Any) -> str:
        """Seals the content under the name that it will have, and keeps it. Raises Conflict when another file took
        the name meanwhile.
        """
        with tempfile.TemporaryFile() as sealed:
            seal_file(self._key(), content, sealed, _context(name))
            sealed.seek(0)
            kept = self._inner.save(name, File(sealed))
        if kept != name:
            self._inner.delete(kept)
            raise errors.Conflict("another file took this name meanwhile", hint="Save it again.")
        return name

    def size(self, name: str) -> int:
        """Returns the size of the content."""
        with self._reader(name) as reader:
            return reader.size

    def delete(self, name: str) -> None:
        self._inner.delete(name)

    def exists(self, name: str) -> bool:
        return bool(self._inner.exists(name))

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        folders, files = self._inner.listdir(path)
        return folders, files

    def get_modified_time(self, name: str) -> Any:
        return self._inner.get_modified_time(name)

    def get_created_time(self, name: str) -> Any:
        return self._inner.get_created_time(name)

    def url(self, name: str) -> str:  # noqa: ARG002
        """There is none: the server of the files would send the sealed bytes."""
        raise errors.Unsupported("a sealed file has no URL", hint="Send it by a view, with FileResponse.")


def _context(name: str) -> str:
    return place("django", name.replace("\\", "/"))
