"""A charon that holds configurations and no SAs: real VICI over real sockets, for what a real one does too rarely."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from warren_agent.drivers.strongswan.vici_codec import (
    Message,
    Packet,
    PacketReader,
    PacketType,
    Section,
    build_message,
    build_packet,
    parse_message,
    subsection,
    subsections,
    text,
)
from warren_testkit.waiting import LIMIT_S

_ALGORITHMS = ("AES_GCM_16", "AES_CBC", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_384", "PRF_HMAC_SHA2_256", "CURVE_25519")


class FakeCharon:
    """Answers at `vici` while it is started. `refused` are the tunnels whose connections it will not have.

    With `start_notify` it also has an error-notify plugin, at the socket next to VICI's.
    """

    def __init__(self, vici: Path) -> None:
        self.vici = vici
        self.notify = vici.with_name("charon.enfy")
        self.listeners: list[asyncio.StreamWriter] = []  # of the plugin
        self.registered: list[str] = []
        self.changed = asyncio.Event()
        self._plugin: asyncio.Server | None = None
        self.refused: set[str] = set()
        self.connections: dict[str, Section] = {}
        self.sas: list[Message] = []  # what list-sas reports, one event each
        self.unable: dict[str, str] = {}  # commands that fail, with the reason that charon gives
        self.asked: list[str] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.vici))

    async def start_notify(self) -> None:
        """Load the plugin."""
        self._plugin = await asyncio.start_unix_server(self._listen, str(self.notify))

    async def stop_notify(self) -> None:
        """Unload the plugin, with its connections; VICI stays."""
        if self._plugin is not None:
            self._plugin.close()
            self._plugin = None
        self.notify.unlink(missing_ok=True)
        self.drop_listeners()

    def drop_listeners(self) -> None:
        """End the plugin's connections; the plugin stays."""
        for writer in self.listeners:
            writer.close()
        self.listeners.clear()

    def notify_all(self, record: bytes) -> None:
        """Send a record to every listener."""
        for writer in self.listeners:
            writer.write(record)

    async def until(self, holds: Callable[[], object], within: float = LIMIT_S) -> None:
        """Wait until something holds after one of the driver's steps."""
        async with asyncio.timeout(within):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.listeners.append(writer)
        self.changed.set()

    async def stop(self) -> None:
        """Die: every connection is closed, and every configuration is lost."""
        await self.stop_notify()
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.close()
        self.vici.unlink(missing_ok=True)
        self.connections.clear()

    async def __aenter__(self) -> "FakeCharon":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packets = PacketReader()
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                for packet in packets.feed(data):
                    for answer in (*self._events(packet), self._answer(packet)):
                        writer.write(build_packet(answer))
        self._writers.discard(writer)
        writer.close()

    def _events(self, packet: Packet) -> list[Packet]:
        """The events that precede the answer of a command."""
        if packet.type is not PacketType.CMD_REQUEST:
            return []
        if packet.name == "list-conns":
            listed = [{name: _listed(it)} for name, it in self.connections.items()]
            return [Packet(PacketType.EVENT, "list-conn", build_message(it)) for it in listed]
        sas = self.sas if packet.name == "list-sas" else []
        return [Packet(PacketType.EVENT, "list-sa", build_message(sa)) for sa in sas]

    def _answer(self, packet: Packet) -> Packet:
        if packet.type is PacketType.EVENT_REGISTER and packet.name in ("alert", "log"):
            known = packet.name == "log"
            self.registered += ["log"] if known else []
            self.changed.set()
            return Packet(PacketType.EVENT_CONFIRM if known else PacketType.EVENT_UNKNOWN, "", b"")
        if packet.type is not PacketType.CMD_REQUEST:
            return Packet(PacketType.EVENT_CONFIRM, "", b"")
        self.asked.append(packet.name)
        return Packet(PacketType.CMD_RESPONSE, "", build_message(self._command(packet)))

    def _command(self, packet: Packet) -> Message:
        message = parse_message(packet.payload)
        if packet.name in self.unable:
            return {"success": "no", "errmsg": self.unable[packet.name]}
        match packet.name:
            case "version":
                return {"version": "5.9.8"}
            case "stats":
                return {"plugins": ["kernel-netlink", "vici"]}
            case "get-algorithms":
                return {"encryption": dict.fromkeys(_ALGORITHMS, "fake")}
            case "get-conns":
                return {"conns": list(self.connections)}
            case "load-conn":
                return self._load(*next(iter(subsections(message).items())))
            case "unload-conn":
                self.connections.pop(text(message, "name"), None)
        return {"success": "yes"}

    def _load(self, name: str, section: Section) -> Message:
        if name.partition("~")[0] in self.refused:
            return {"success": "no", "errmsg": "invalid value for: proposals, config discarded"}
        self.connections[name] = section
        return {"success": "yes"}


def _listed(section: Section) -> Section:
    """A connection as list-conns has it: the marker, and the selectors of its children."""
    children = subsections(subsection(section, "children"))
    selectors = {
        name: {"local-ts": child["local_ts"], "remote-ts": child["remote_ts"]} for name, child in children.items()
    }
    return {"local-1": {"groups": subsection(section, "local").get("groups", [])}, "children": dict(selectors)}
