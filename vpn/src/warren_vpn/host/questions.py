"""DNS questions that go around the tunnel, to the servers of the host's own network, each from a local port of its own.

While the tunnel's routes or the kill switch are in force the host's resolver asks inside the tunnel, or nobody. The client itself asks
for its servers' names from sockets of its own: rules let exactly their ports pass, and no other program can send from these.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from warren_vpn.host.changes import (
    Address,
    Change,
    DnsServer,
    Passage,
    ResolvconfChange,
    ResolvConfFileChange,
    ResolvedChange,
    without_zone,
    zone_of,
)
from warren_vpn.host.errors import UnresolvedNameError
from warren_vpn.host.resolv_conf import STUB, nameservers

RESOLVED_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
"""The servers that systemd-resolved asks (systemd-resolved.service(8))."""
PORT = 53
QUERY_SECONDS = 2.0
ROUNDS = 2
"""Over all servers."""
ASK_SECONDS = 10.0
"""For one name, and one query more."""
MAX_SERVERS = 4
_MAX_BYTES = 64_000
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  the kernel chooses the address by its route


def outside_servers(changes: Sequence[Change], path: Path, upstream: Path = RESOLVED_UPSTREAM) -> tuple[Address, ...]:
    """The DNS servers of the host's own network: those of its resolver's file, as it is or was without our change."""
    content, own = _read(path), set[Address]()
    for change in changes:
        match change:
            case ResolvConfFileChange(written=written, original=original) if content in written:
                content = original.content or ""
                if original.target is not None:
                    content = _read(path.parent / original.target)
            case ResolvedChange(servers=servers) | ResolvconfChange(servers=servers):
                own.update(servers)
    if STUB in nameservers(content):
        content = _read(upstream)
    found = (_parse_server(text) for text in nameservers(content))
    return tuple(dict.fromkeys(one for one in found if one is not None and one not in own))[:MAX_SERVERS]


def _parse_server(text: str) -> Address | None:
    """An address; a link-local one has the name of its interface as zone. None: it is none, or nobody can send there."""
    try:
        address = ip_address(text)
        zone = zone_of(address)
        if zone is not None and zone.isascii() and zone.isdecimal():  # an index, as systemd-resolved writes it
            address = ip_address(f"{without_zone(address)}%{socket.if_indextoname(int(zone))}")
        _SERVER.validate_python(address)
    except (ValueError, OSError, OverflowError):
        return None
    return None if address.is_link_local and zone is None else address


_SERVER: TypeAdapter[Address] = TypeAdapter(DnsServer)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Question:
    """The addresses of one name. Made by `open_questions`."""

    name: str
    servers: tuple[Address, ...]
    sockets: Mapping[int, Any] = field(repr=False)
    """By IP version, of dnspython."""

    async def ask(self) -> tuple[Address, ...]:
        """Both IP versions. UnresolvedNameError: no server answers, or the name does not exist."""
        end = asyncio.get_running_loop().time() + ASK_SECONDS
        answers: dict[str, list[Address]] = {}
        problem = "there is no such name, or it has no address"
        for server, kind in ((server, kind) for server in self.servers * ROUNDS for kind in ("A", "AAAA")):
            if kind in answers or server.version not in self.sockets or asyncio.get_running_loop().time() > end:
                continue
            try:
                answers[kind] = await self._ask(server, kind)
            except (UnresolvedNameError, OSError) as error:
                problem = f"{server}: {error}"
        found = tuple(address for kind in sorted(answers) for address in answers[kind])
        if not found:
            raise UnresolvedNameError(f"{self.name}: the name cannot be looked up ({problem})")
        return found

    async def _ask(self, server: Address, kind: str) -> list[Address]:
        import dns.asyncquery
        import dns.exception
        import dns.message
        import dns.rcode

        query = dns.message.make_query(self.name, kind)
        try:
            # what is not an answer to this question is ignored: anybody can send datagrams to the port
            reply = await dns.asyncquery.udp(
                query, str(server), QUERY_SECONDS, PORT, ignore_unexpected=True, ignore_errors=True,
                sock=self.sockets[server.version],
            )  # fmt: skip
            if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                raise UnresolvedNameError(f"answers {dns.rcode.to_text(reply.rcode())}")
            assert isinstance(reply, dns.message.QueryMessage)
            answer = reply.resolve_chaining().answer
        except dns.exception.Timeout:
            raise UnresolvedNameError(f"no answer in {QUERY_SECONDS:g} s") from None
        except dns.exception.DNSException as error:
            raise UnresolvedNameError(str(error) or type(error).__name__) from None
        return [ip_address(record.to_text()) for record in answer] if answer is not None else []


@asynccontextmanager
async def open_questions(
    names: Sequence[str], servers: Sequence[Address]
) -> AsyncIterator[tuple[list[Question], tuple[Passage, ...]]]:
    """The questions for names, and the passages that they need: each server, and each local port from which it is asked."""
    from dns.asyncbackend import get_backend  # 6 MB, which clients whose servers are addresses do not need

    backend: Any = get_backend("asyncio")
    questions: list[Question] = []
    passages: list[Passage] = []
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            sockets: dict[int, Any] = {}
            for version in sorted({server.version for server in servers}):
                try:
                    opened = await backend.make_socket(_FAMILY[version], socket.SOCK_DGRAM, 0, (_ANY[version], 0))
                except OSError:  # a host without IPv6
                    continue
                sockets[version] = await stack.enter_async_context(opened)
                port = (await opened.getsockname())[1]
                passages += [(server, port) for server in servers if server.version == version]
            questions.append(Question(name, tuple(servers), sockets))
        yield questions, tuple(passages)


async def ask_system(name: str) -> tuple[Address, ...]:
    """The addresses of a name by the host's own resolver. UnresolvedNameError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise UnresolvedNameError(f"{name}: the name cannot be looked up ({error.strerror})") from None
    addresses = (ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    return tuple(dict.fromkeys(addresses))
