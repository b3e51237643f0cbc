"""The composition root: joins the application with NATS and uvicorn."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from warren_api.adapters.nats_bus import NatsBus
from warren_api.app import build_app
from warren_api.page import load_page, page_folder
from warren_api.protocol import protocol_for
from warren_api.sessions.store import SessionStore
from warren_api.settings import ApiSettings
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import InvalidSettingError
from warren_bus.settings import BusSettings
from warren_service import tls_listener
from warren_service.collector import spare_the_collector
from warren_service.otel import build_tracer
from warren_service.server_certificate import ServerCertificate

NAME = "api"  # the bus user
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ADDRESS = "WARREN_HTTP_HOST, WARREN_HTTP_PORT"
YOUNGEST = 50_000  # objects until the collector looks at them: requests leave cycles, some hundred objects each
GRACE = 3  # s for requests in progress when the process is stopped; event streams end at once


class ApiServer(uvicorn.Server):
    """uvicorn that ends event streams before it waits for them, and returns from `serve` after a signal.

    uvicorn's own handlers raise the signal again at the end, which would end the process before the bus is closed. With a
    certificate, connections come from a `TlsListener`: uvicorn's own one loads files once, and waits a minute for a handshake.
    """

    def __init__(
        self, config: uvicorn.Config, stopping: asyncio.Event, certificate: ServerCertificate | None = None
    ) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._certificate = certificate

    def stop(self) -> None:
        """Stop: no new connections, event streams closed, requests in progress finished within GRACE."""
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises InvalidSettingError when the address is not available."""
        await self.lifespan.startup()
        factory: Any = self.config.http_protocol_class

        def create_protocol() -> asyncio.Protocol:
            created: asyncio.Protocol = factory(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return created

        host, port = self.config.host, self.config.port
        try:
            if self._certificate is None:
                loop = asyncio.get_running_loop()
                self.servers = [await loop.create_server(create_protocol, host, port, backlog=self.config.backlog)]
            else:
                listener = await tls_listener.listen(create_protocol, host, port, self._certificate)
                self.servers = [listener]  # type: ignore[list-item] # it has what uvicorn calls
        except OSError as error:
            raise InvalidSettingError({_ADDRESS: f"cannot be used: {host}:{port}: {error.strerror or error}"}) from None
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM while serving."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)


async def run(bus_settings: BusSettings, settings: ApiSettings) -> None:
    """Serve until SIGINT or SIGTERM. Raises InvalidSettingError for the certificate or the address."""
    spare_the_collector(YOUNGEST)
    certificate, tracer = settings.certificate(), build_tracer(NAME)
    async with Connection(bus_settings, name=NAME, inbox_prefix=inbox(NAME)) as connection:
        app = build_app(
            NatsBus(connection, bus_settings), hsts_seconds=settings.http_hsts_seconds, page=load_page(page_folder()),
            sessions=SessionStore(settings.session_seconds, settings.session_idle_seconds, time.monotonic), tracer=tracer,
        )  # fmt: skip
        config = uvicorn.Config(
            app, host=settings.http_host, port=settings.http_port, access_log=False, log_config=None,
            server_header=False, date_header=True, lifespan="off", timeout_graceful_shutdown=GRACE,
            ws="wsproto", ws_max_size=4_096, h11_max_incomplete_event_size=65_536, http=protocol_for(settings.proxies()),
            # uvicorn trusts 127.0.0.1 by default: any process of the host, or behind its proxy, could name another address
            proxy_headers=bool(settings.trusted_proxies), forwarded_allow_ips=settings.trusted_proxies or None,
        )  # fmt: skip
        server = ApiServer(config, app.state.parts.stopping, certificate)
        await server.serve()
