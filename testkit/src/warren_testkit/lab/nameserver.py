"""An authoritative DNS server on a loopback address of its own, port 53: zones as text, changed and silenced by a test.

It answers over UDP what a zone holds: address records, CNAMEs with their targets, NXDOMAIN, and no data, each with the SOA where
RFC 2308 asks for it. A stub resolver finds it by a resolv.conf(5), which cannot name a port.
"""

import asyncio
import errno
import os
import socket
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone

_PORT = 53
_HEAD = "@ 1 SOA ns.example. hostmaster.example. 1 3600 600 86400 1\n@ 1 NS ns.example.\n"


def _bind_free() -> socket.socket:
    """A socket at port 53 of an address of the loopback that no other process of this machine has (127.0.0.0/8 is all local)."""
    for place in os.urandom(256):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            own.bind((f"127.53.{os.getpid() % 256}.{place}", _PORT))
        except OSError as error:
            own.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return own
    raise OSError(errno.EADDRINUSE, "port 53 is taken at every address of 127.53.0.0/16 that was tried")


class NameServer(asyncio.DatagramProtocol):
    """Serves the zone `example.`; `records` are lines of a zone file (`gw 6 A 192.0.2.1`). `ignored` types get no answer."""

    def __init__(self, folder: Path, records: str, address: str = "", timeout_s: int = 1) -> None:
        """`address`: of the namespace where it is started; else one of the loopback, which is taken at once.

        `timeout_s` is how long a resolver waits for it before it asks again, once.

        OSError without the right to bind port 53.
        """
        self._socket = None if address else _bind_free()
        self.address = address or str(self._socket.getsockname()[0])  # type: ignore[union-attr]  # bound above
        self.configuration = folder / f"resolv-{self.address}.conf"
        self.configuration.write_text(f"nameserver {self.address}\noptions timeout:{timeout_s} attempts:2\n")
        self.queries: list[tuple[str, str]] = []  # names and types
        self.ignored: set[str] = set()
        self.is_silent = False
        self.serve(records)
        self._transport: asyncio.DatagramTransport | None = None

    def serve(self, records: str) -> None:
        """Answer from these records from now on."""
        self._zone = dns.zone.from_text(_HEAD + records, origin="example.", relativize=False)

    async def start(self) -> None:
        """Listen. OSError without the right to bind port 53."""
        loop = asyncio.get_running_loop()
        if self._socket is not None:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        else:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, _PORT))

    def stop(self) -> None:
        """Close the socket: queries are refused by ICMP from now on."""
        if self._transport is not None:
            self._transport.close()

    def asked(self, name: str) -> int:
        """How often an A record of a name was asked for."""
        return self.queries.count((name, "A"))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((question.name.to_text(), kind))
        if self.is_silent or kind in self.ignored or self._transport is None:
            return
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        self._answer(reply, question.name, question.rdtype)
        self._transport.sendto(reply.to_wire(), addr)

    def _answer(self, reply: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        node = self._zone.get_node(name)
        if node is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif (found := self._zone.get_rrset(name, kind)) is not None:
            reply.answer.append(found)
            return
        elif (alias := self._zone.get_rrset(name, dns.rdatatype.CNAME)) is not None:
            reply.answer.append(alias)
            self._answer(reply, alias[0].target, kind)
            return
        soa = self._zone.get_rrset(dns.name.from_text("example."), dns.rdatatype.SOA)
        assert soa is not None
        reply.authority.append(soa)
