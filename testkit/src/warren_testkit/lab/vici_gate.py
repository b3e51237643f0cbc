"""A socket in front of charon's VICI socket that can hold back the agent's next commands: where a part is killed in between.

Packets are a length (4 bytes) and a type; type 0 is a command (README of libvici). Events pass at all times.
"""

import asyncio
import contextlib
from pathlib import Path

_COMMAND = 0
_LIMIT = 1 << 20


class ViciGate:
    """Listens at `path`, and forwards to charon at `target`."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path, self._target = path, target
        self._server: asyncio.Server | None = None
        self._number = 0  # commands since `hold_at`
        self._held_number: int | None = None
        self.reached = asyncio.Event()  # the command at which it holds has come
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        """Close every connection."""
        self._open.set()
        if self._server is not None:
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def hold_at(self, number: int) -> None:
        """Hold back the command of this number from now on, and all that follow it."""
        self._number, self._held_number = 0, number
        self.reached.clear()

    def release(self) -> None:
        """Let commands pass again."""
        self._held_number = None
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_charon = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.close()
            return
        ways = [
            asyncio.create_task(self._commands(reader, to_charon[1])),
            asyncio.create_task(_copy(to_charon[0], writer)),
        ]
        self._pumps |= {*ways}
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._pumps -= {*ways}
        for end in (writer, to_charon[1]):
            end.close()

    async def _commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                packet = await reader.readexactly(int.from_bytes(head, "big"))
                if packet[:1] == bytes([_COMMAND]):
                    await self._pass_command()
                writer.write(head + packet)
                await writer.drain()

    async def _pass_command(self) -> None:
        self._number += 1
        if self._held_number is not None and self._number >= self._held_number:
            self._open.clear()
            self.reached.set()
        await self._open.wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_LIMIT):
            writer.write(data)
            await writer.drain()
