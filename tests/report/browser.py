"""A headless Chromium, spoken to over the pipe of its remote debugging protocol: no driver, no port, no library."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without the last ones the browser asks for hosts of its maker, which a closed network refuses.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-pipe", "--force-color-profile=srgb", "--hide-scrollbars",
]  # fmt: skip


class Browser:
    """One tab. ``errors`` holds what was written to its console as an error, and uncaught exceptions."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="chromium")
        (read_in, self._out), (self._in, write_out) = os.pipe(), os.pipe()

        def wires():
            # The protocol's ends are 3 and 4; either may be taken, so both go out of the way first.
            a, b = os.dup2(read_in, 20), os.dup2(write_out, 21)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"],
            preexec_fn=wires, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_in)
        os.close(write_out)
        self._count, self._buffer, self.events, self.errors, self.session = 0, b"", [], [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _message(self):
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        """The result of one command; events on the way are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            got = self._message()
            if got.get("id") == self._count:
                assert "error" not in got, got
                return got["result"]
            self._event(got)

    def _event(self, got):
        kind, said = got.get("method"), got.get("params", {})
        self.events.append(kind)
        if kind == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"].get("exception", said["exceptionDetails"])))
        elif kind == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning"):
            self.errors.append(str([a.get("value") for a in said["args"]]))
        elif kind == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"]["text"])

    def look(self, width=1280, height=900, *, dark=False, printed=False):
        """Width of the window, colour scheme, medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=scheme)

    def open(self, path):
        """Go to a file and wait until it is drawn."""
        self.events.clear()
        self.call("Page.navigate", url=f"file://{path}")
        while "Page.loadEventFired" not in self.events:
            self._event(self._message())
        self.settle()

    def settle(self):
        """Two frames."""
        frames = "new Promise(f => requestAnimationFrame(() => requestAnimationFrame(() => f(1))))"
        self.ask(frames)

    def ask(self, expression):
        """The value of a JavaScript expression."""
        got = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def shot(self, path, clip=None):
        """A picture of the whole page, or of a part (x, y, width, height)."""
        options = {"captureBeyondViewport": True}
        if clip is None:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = (0, 0, size["width"], min(size["height"], 16000))
        options["clip"] = dict(zip(("x", "y", "width", "height"), clip)) | {"scale": 1}
        data = self.call("Page.captureScreenshot", format="png", **options)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def pdf(self):
        """The page as it is printed: bytes of a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])

    def click(self, x, y):
        """The left button, at a point of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def press(self, key):
        """A key that has no text, such as ArrowDown, or Enter."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self.settle()

    def close(self):
        """End the browser and remove its folder."""
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self.process.terminate()
        self.process.wait(20)
        os.close(self._out)
        os.close(self._in)
        time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)
