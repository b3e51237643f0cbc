"""The server's end of the control socket (`warren_process.control_socket`)."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from warren_contracts.problems import invalid_input
from warren_process.control_socket import ControlSocket
from warren_vpn.server.control import MAX_REQUEST, REQUEST, ControlRefused, Reply, Request
from warren_vpn.server.errors import ServerError


class ControlServer(ControlSocket):
    """Answers the requests of `control` while it is started."""

    def __init__(self, path: Path, answer: Callable[[Request], Reply]) -> None:
        super().__init__(path, self._reply, max_line=MAX_REQUEST)
        self._handle = answer

    async def start(self) -> None:
        """Listen. ServerError: another server answers there, or the path is unusable."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(self.path)
            writer.close()
            raise ServerError(f"{self.path}: another server answers there")
        try:
            await super().start()
        except OSError as error:
            raise ServerError(f"control: {self.path}: {error.strerror or error}") from None

    async def _reply(self, line: bytes) -> bytes:
        try:
            reply = self._handle(REQUEST.validate_json(line))
        except ValidationError as error:
            reply = ControlRefused(refused=invalid_input(error.errors(include_url=False)).detail)
        except ServerError as error:
            reply = ControlRefused(refused=str(error))
        return reply.model_dump_json().encode()
