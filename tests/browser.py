"""A headless Chromium for tests, driven over its own DevTools pipe; needs the browser and nothing else.

Chromium reads commands from file descriptor 3 and writes answers and events to 4, each a JSON text that ends in
a zero byte (``--remote-debugging-pipe``). No port is opened.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab; `events` holds everything that the browser has told."""

    def __init__(self, commands: int, answers: int, *, timeout: float = 60.0) -> None:
        self._commands, self._answers, self._timeout = commands, answers, timeout
        self._number, self._unread = 0, b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[os.write(self._commands, text) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        while b"\0" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError("the browser has not answered")
            block = os.read(self._answers, 1 << 20)
            if not block:
                raise RuntimeError("the browser has ended")
            self._unread += block
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def open(self, address: str, *, width: int, height: int = 900, phone: bool = False) -> None:
        """Open `address` in a window of that many CSS pixels and wait until all of it is loaded."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Page.navigate", url=address)
        deadline = time.monotonic() + self._timeout
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{address} has not loaded")
            self.events.append(self._receive())

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page (a page's own policy does not bind it)."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console, exceptions, and dialogs that a script opened."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"].get("text", "exception"))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(f"console.{params['type']}")
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif method == "Page.javascriptDialogOpening":
                found.append(f"dialog: {params['message']}")
        return found

    def requests(self) -> list[str]:
        """Return the address of everything that was asked for since the page was opened."""
        sent = (event for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def download(self, script: str, folder: Path) -> dict[str, bytes]:
        """Run JavaScript that saves a file to `folder`, and return what it holds then by name."""
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.evaluate(script)
        deadline = time.monotonic() + self._timeout
        while True:
            found = [path for path in folder.iterdir() if path.suffix != ".crdownload"]
            if found and not list(folder.glob("*.crdownload")):
                return {path.name: path.read_bytes() for path in found}
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was saved to {folder}")
            time.sleep(0.02)

    def screenshot(self, path: str | Path, *, top: int = 0, height: int | None = None) -> None:
        """Write the page (all of it, or a strip) as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        height = int(size["height"]) - top if height is None else height
        clip = {"x": 0, "y": top, "width": size["width"], "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def pdf(self, path: str | Path) -> None:
        """Print the page to a PDF."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))


@contextmanager
def running() -> Iterator[Browser]:
    """Start a Chromium with a profile of its own, and end it and its children."""
    program = find()
    if program is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(NAMES)} is on the path")
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # the shell puts the two pipes where Chromium looks for them
        shell = f'exec 8<&{to_browser} 9>&{from_browser}; exec 3<&8 4>&9; exec "$@" 8<&- 9>&-'
        process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "browser", program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Browser(commands, answers)
        finally:
            os.close(commands)
            os.close(answers)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
