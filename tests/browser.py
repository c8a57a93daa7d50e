"""A headless Chromium, for tests of what a person sees and for the documentation's pictures."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image

CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """A headless Chromium, driven over a pipe by the DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        asked, self.write = os.pipe()
        self.read, answered = os.pipe()
        self.unread, self.number, self.session = b"", 0, {}
        self.events: list[dict[str, Any]] = []

        def place() -> None:
            for number, descriptor in enumerate((os.dup(asked), os.dup(answered)), start=3):
                os.dup2(descriptor, number)

        command = [*CHROMIUM, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL)
        page = next(one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page")
        session = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self.session = {"sessionId": session}
        for domain in "Page", "Runtime", "Network":
            self(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters, **self.session}
        os.write(self.write, json.dumps(command).encode() + b"\0")
        while True:
            while b"\0" not in self.unread:
                if not select.select([self.read], [], [], 90)[0]:
                    raise TimeoutError(method)
                self.unread += os.read(self.read, 1 << 16)
            text, _, self.unread = self.unread.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.number:
                return answer["result"]
            self.events.append(answer)

    @property
    def asked(self) -> list[str]:
        """The addresses that the pages so far asked a network for."""
        sent = (
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        )
        return [url for url in sent if not url.startswith(("file:", "data:", "about:"))]

    @property
    def failures(self) -> list[str]:
        """Exceptions of the pages so far that nothing caught."""
        thrown = [event for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        return [json.dumps(event["params"]["exceptionDetails"]) for event in thrown]

    def open(self, url: str, width: int, height: int, scale: float) -> None:
        """Show a page in a window of this size."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self("Page.navigate", url=url)

    def run(self, code: str) -> Any:
        """The value of JavaScript, which may await."""
        code = f"(async () => {{ {code} }})()"
        answer = self("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move, press or release the left button."""
        self("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", buttons=1, clickCount=1)

    def photograph(self, path: Path, **options: Any) -> None:
        """Write what the window shows as a PNG of at most 256 colours."""
        data = base64.b64decode(self("Page.captureScreenshot", format="png", **options)["data"])
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
