"""The answer of docs/client.md in FastAPI, served by uvicorn: a sealed file, whole and in ranges."""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_envelope_client import SealedReader, seal_file
from pg_envelope_client.sealing.file_header import BLOCK
from pg_envelope_client.sealing.files import CHUNK, SEALED_CHUNK
from tests.vectors.local import local_key

PAGE = Path(__file__).parents[3] / "docs/client.md"
BLOCK_OF_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONTENT = os.urandom(2 * CHUNK + 77)
KEY = local_key()
SIZE = len(CONTENT)


class Site:
    """The application of the page, at a port of its own. `opened` has the files that it opened."""

    def __init__(self, folder: Path) -> None:
        self.file, self.opened = folder / "scan.pdf.sealed", list[IO[bytes]]()
        with self.file.open("wb") as target:
            seal_file(KEY, io.BytesIO(CONTENT), target, "inbox/7", media_type="application/pdf")
        (block,) = [found for found in BLOCK_OF_PYTHON.findall(PAGE.read_text()) if "FastAPI()" in found]
        names: dict[str, Any] = {"crm": KEY, "SealedReader": SealedReader, "open": self._open}
        exec(block, names)
        config = uvicorn.Config(names["app"], log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def _open(self, name: str, mode: str) -> IO[Any]:
        file = self.file.with_name(name).open(mode)
        self.opened.append(file)
        return file

    def get(self, asked: str | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self._socket.getsockname(), timeout=10)
        try:
            connection.request("GET", "/scan", headers={"Range": asked} if asked else {})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


def test_the_whole_file(site: Site) -> None:
    status, headers, body = site.get()
    assert (status, body) == (200, CONTENT)
    assert (headers["content-type"], headers["content-length"]) == ("application/pdf", str(SIZE))
    assert "content-range" not in headers


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=-10", SIZE - 10, SIZE),
        (f"bytes={CHUNK - 1}-{CHUNK}", CHUNK - 1, CHUNK + 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=5-{SIZE + 999}", 5, SIZE),
        (f"bytes=-{SIZE + 999}", 0, SIZE),
    ],
)
def test_a_range(site: Site, asked: str, start: int, stop: int) -> None:
    status, headers, body = site.get(asked)
    assert (status, body) == (206, CONTENT[start:stop])
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert headers["content-length"] == str(stop - start)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
def test_any_range(site: Site, one: int, other: int) -> None:
    first, last = sorted((one, other))
    assert site.get(f"bytes={first}-{last}")[::2] == (206, CONTENT[first : last + 1])


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=9-8", "bytes=-0"])
def test_a_range_outside_of_the_file(site: Site, asked: str) -> None:
    status, headers, body = site.get(asked)
    assert (status, headers["content-range"]) == (416, f"bytes */{SIZE}")
    assert CONTENT[:8] not in body


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=a-b", "pages=1-2", "bytes=--5", "bytes=" + "9" * 30 + "-"])
def test_what_is_no_range_of_ours_gives_the_whole_file(site: Site, asked: str) -> None:
    assert site.get(asked)[::2] == (200, CONTENT)


def test_each_answer_closes_its_file(site: Site) -> None:
    site.get("bytes=0-9")
    site.get(f"bytes={SIZE}-")
    # The client has the last answer before the file is closed: one more request gives it the time.
    site.get("bytes=0-9")
    assert all(file.closed for file in site.opened[:-1])


def test_an_altered_part_ends_the_answer_before_its_length(site: Site) -> None:
    whole = site.file.read_bytes()
    place = BLOCK + SEALED_CHUNK + 5
    site.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    try:
        with pytest.raises(http.client.IncompleteRead) as broken:
            site.get()
        assert broken.value.partial == CONTENT[:CHUNK]
        assert site.get("bytes=0-9")[::2] == (206, CONTENT[:10])
        assert site.opened[-2].closed
    finally:
        site.file.write_bytes(whole)
