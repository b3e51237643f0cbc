"""The daemon's UNIX socket: JSON lines (see `messages`). Every connection receives the reports.

Only root, the daemon's own user and one more that is given are accepted: who controls the daemon has every tunnel.
"""

import asyncio
import contextlib
import os
import socket
import struct
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from warren_ikev2.daemon import messages
from warren_ikev2.daemon.tunnels import Tunnels, UnknownTunnelError
from warren_ikev2.errors import IkeError

_CREDENTIALS = struct.Struct("3i")


class DaemonControlServer:
    """Serves the socket. `tunnels` is set before `start`."""

    def __init__(self, path: Path, user: int | None = None) -> None:
        """`user`: the user id that owns the socket and may control the daemon besides root."""
        self.path = path
        self._user = user
        self.tunnels: Tunnels | None = None
        self.stopped = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. Raises `OSError` if another daemon has the socket."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(self.path)
            writer.close()
            raise FileExistsError(f"{self.path}: another daemon answers there")
        self.path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=messages.MAX_LINE)
        finally:
            os.umask(mask)
        if self._user is not None:
            os.chown(self.path, self._user, -1)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        self.path.unlink(missing_ok=True)

    def report(self, report: messages.TunnelReport) -> None:
        """Send a report over every connection."""
        line = messages.build(0, report)
        for writer in self._writers:
            if writer.transport.get_write_buffer_size() < messages.MAX_LINE:  # who does not read loses reports
                writer.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _user_of(writer.get_extra_info("socket")) not in (0, os.geteuid(), self._user):
            writer.close()
            return
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                number, message = messages.parse(line)
                writer.write(messages.build(number, await self._carry_out(message)))
                await writer.drain()
        except (messages.DaemonMessageError, ValueError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _carry_out(self, message: messages.Message) -> messages.Answer:
        try:
            return messages.Done(await self._command(message))
        except UnknownTunnelError as error:
            return messages.Refused("unknown-tunnel", str(error))
        except (IkeError, ValueError, OSError) as error:
            return messages.Refused("invalid", str(error)[:250])

    async def _command(self, message: messages.Message) -> str:
        tunnels = self.tunnels
        assert tunnels is not None
        match message:
            case messages.Hello(private_key):
                await tunnels.set_key(private_key)
                return _version()
            case messages.Put(tunnel):
                return await tunnels.put(tunnel)
            case messages.GiveUp(name, force):
                return "yes" if tunnels.give_up(name, force=force) else "no"
            case messages.RestoreRoutes():
                missing = await tunnels.restore_routes()
                return "\n".join(" ".join((name, *map(str, networks))) for name, networks in missing.items())
            case messages.List():
                for report in tunnels:
                    self.report(report)
            case messages.Shutdown():
                self.stopped.set()
            case _:
                await self._change(tunnels, message)
        return ""

    async def _change(self, tunnels: Tunnels, message: messages.Message) -> None:
        """The commands that name a tunnel and have no outcome."""
        match message:
            case messages.Remove(name):
                await tunnels.remove(name)
            case messages.StartTunnel(name):
                tunnels.start(name)
            case messages.StopTunnel(name):
                await tunnels.stop(name)
            case messages.Renew(name):
                tunnels.renew(name)
            case messages.Rekey(name, ike, children):
                tunnels.rekey(name, ike=ike, children=children)
            case messages.CloseChildren(name, children):
                tunnels.close_children(name, children)
            case _:
                raise messages.DaemonMessageError(f"{type(message).__name__} is not a command")


def _user_of(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def _version() -> str:
    try:
        return version("warren-ikev2")
    except PackageNotFoundError:
        return "0"
