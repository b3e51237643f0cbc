"""An API server on a real socket, in a thread of its own: for clients that block, such as the operator's verbs."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from warren_api.bootstrap import ApiServer
from warren_service.server_certificate import ServerCertificate
from warren_testkit.api.application import build_test_app
from warren_testkit.api.bus import FakeBus
from warren_testkit.bus import free_port
from warren_testkit.waiting import LIMIT_S, eventually


class LiveApi:
    """An API server on a fake bus. With `former`: the same one, which returns on its port with its events."""

    def __init__(
        self, former: "LiveApi | None" = None, bus: FakeBus | None = None, certificate: ServerCertificate | None = None
    ) -> None:
        self._certificate = certificate
        self.bus = bus or FakeBus()
        self.bus.stored = former.bus.stored if former else []
        self.port: int = former.port if former else free_port()
        self.url: str = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "LiveApi":
        self._thread.start()
        assert self._ready.wait(LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._server.stop)
        self._thread.join(LIMIT_S)

    def call(self, function: Callable[[], object]) -> None:
        """Run something in the API server's event loop."""
        self._loop.call_soon_threadsafe(function)

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Let a service publish an event."""
        subject, payload = f"warren.v1.event.metrics.{kind}.gw1", json.dumps(data).encode()
        publishing = self.bus.publish(subject, f"warren.{kind}.changed.v1", payload)
        asyncio.run_coroutine_threadsafe(publishing, self._loop).result(LIMIT_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        application = build_test_app(self.bus)
        config = uvicorn.Config(
            application, port=self.port, lifespan="off", log_config=None, timeout_graceful_shutdown=2
        )
        self._server = _InThread(config, application.state.parts.stopping, self._certificate)
        serving = asyncio.create_task(self._server.serve())
        await eventually(lambda: self._server.started)
        scheme = "http" if self._certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._ready.set()
        await serving


class _InThread(ApiServer):
    """Signals belong to the main thread."""

    capture_signals = uvicorn.Server.capture_signals
