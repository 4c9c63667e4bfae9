"""A real Chromium, driven over its own protocol: one page, all of its requests, a picture."""

import asyncio
import base64
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Browser:
    """One page, and the workers that it starts."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        self._listener = asyncio.create_task(self._listen())
        self._asked: set[asyncio.Task[Any]] = set()

    async def call(self, method: str, session: str | None = None, **values: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": values}
        if session or self._session:
            message["sessionId"] = session or self._session
        answered = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(message)
        answer = await asyncio.wait_for(answered, 60)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    async def open(self, url: str, width: int = 1280, height: int = 800) -> None:
        """Open a page and watch what it and its workers ask for."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        await self.call("Network.enable")
        await self.call("Runtime.enable")
        await self.call("Page.enable")
        await self.call(
            "Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True
        )
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def evaluate(self, script: str) -> Any:
        """Return the value of a script in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, script: str, seconds: float = 30) -> Any:
        """Wait until a script's value is true and return it."""
        end = asyncio.get_running_loop().time() + seconds
        while not (value := await self.evaluate(script)):
            assert asyncio.get_running_loop().time() < end, script
            await asyncio.sleep(0.1)
        return value

    async def picture(self, file: Path) -> None:
        """Save what is seen as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))

    async def _listen(self) -> None:
        async for message in self._socket:
            event = message.json()
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event)
                continue
            values = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            elif event["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(values["exceptionDetails"]))
            elif event["method"] == "Target.attachedToTarget":
                # A worker waits until its requests are watched, too.
                for method in ("Network.enable", "Runtime.runIfWaitingForDebugger"):
                    asked = asyncio.create_task(self.call(method, values["sessionId"]))
                    self._asked.add(asked)
                    asked.add_done_callback(self._asked.discard)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Give a Chromium of its own, which ends with the block."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = Path(profile) / "DevToolsActivePort"
            for _ in range(600):
                if port.exists() and port.read_text().count("\n") == 1:
                    break
                await asyncio.sleep(0.1)
            number, path = port.read_text().split()
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=0) as socket,
            ):
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait(30)
