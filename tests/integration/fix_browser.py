"""Debian's chromium, driven through two pipes: Chrome DevTools Protocol, messages that end with a zero byte."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60
LOADED = "Page.loadEventFired"
# Chromium reads commands from descriptor 3, and answers at 4. dash takes no source above 9.
LINE = 'exec 3<&"$1" 4>&"$2"; shift 2; exec chromium "$@"'
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]


class Browser:
    """One page at a time, as if nobody had used the browser before. What a person does is done by selectors of CSS; a
    click on what leads elsewhere waits for it.
    """

    def __init__(self, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self.failed: list[str] = []
        self._rest, self._number, self._loads = b"", 0, 0
        line = ["bash", "-c", LINE, "bash", str(commands), str(answers), *OPTIONS, f"--user-data-dir={profile}"]
        with (profile.parent / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(line, pass_fds=(commands, answers), stdout=log, stderr=log)
        os.close(commands)
        os.close(answers)
        self._session: str | None = None

    @contextmanager
    def page(self) -> Iterator[Browser]:
        """Yields the browser with a page that has no cookies, and forgets what came of it."""
        person = self._ask("Target.createBrowserContext")
        target = self._ask("Target.createTarget", url="about:blank", **person)["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self._ask(f"{domain}.enable")
        self.failed.clear()
        try:
            yield self
        finally:
            self._session = None
            self._ask("Target.disposeBrowserContext", **person)

    def go(self, url: str) -> None:
        """Opens an address, and waits until all of it is there, with style sheets and scripts."""
        before = self._loads
        self._ask("Page.navigate", url=url)
        self._wait_for_load(before)

    def click(self, selector: str) -> None:
        """Clicks on what leads to another page."""
        before = self._loads
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        self._wait_for_load(before)

    def type(self, selector: str, text: str) -> None:
        """Types in the place of what is there, as a keyboard does."""
        self.run(f"(field => {{ field.focus(); field.select() }})(document.querySelector({json.dumps(selector)}))")
        self._ask("Input.insertText", text=text)

    def run(self, script: str) -> Any:
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, (script, answer["exceptionDetails"].get("exception"), self.text)
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        script = f"[...document.querySelectorAll({json.dumps(selector)})].map(found => found.innerText.trim())"
        return list(self.run(script))

    def style(self, selector: str, name: str) -> str:
        return str(self.run(f"getComputedStyle(document.querySelector({json.dumps(selector)}))[{json.dumps(name)}]"))

    @property
    def text(self) -> str:
        return str(self._ask("Runtime.evaluate", expression="document.body.innerText")["result"].get("value"))

    @property
    def url(self) -> str:
        return str(self.run("location.href"))

    def close(self) -> None:
        os.close(self._write)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while (answer := self._next(until)).get("id") != message["id"]:
            self._see(answer)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    def _wait_for_load(self, before: int) -> None:
        until = time.monotonic() + SECONDS
        while self._loads == before:
            self._see(self._next(until))

    def _see(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        self._loads += method == LOADED
        if method == "Network.responseReceived" and about["response"]["status"] >= 400 and about["type"] != "Other":
            # Type Other is the icon that every browser asks for.
            self.failed.append(f"{about['response']['status']} {about['response']['url']}")
        if method == "Runtime.exceptionThrown":
            self.failed.append(str(about["exceptionDetails"].get("text")))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0, until - time.monotonic()))
            assert ready, "chromium does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "chromium ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The process, which takes seconds to start."""
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium")
    made = Browser(tmp_path_factory.mktemp("chromium") / "profile")
    yield made
    made.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    with chromium.page() as page:
        yield page
