"""Connects to `echo_server.py`, sends packets through ESP, rekeys in between, and says what came back.

IKE_SECRET=… python examples/ikev2/client.py 127.0.0.1 --ike-port 5500 --natt-port 5501
"""

import argparse
import asyncio
import logging
import os
from ipaddress import IPv4Address

from warren_ikev2.aio import Client
from warren_ikev2.errors import IkeError
from warren_ikev2.esp.inner import checksum


def udp_packet(source: IPv4Address, destination: IPv4Address, payload: bytes) -> bytes:
    """A small IPv4 packet with a UDP datagram inside."""
    length = 28 + len(payload)
    header = b"\x45\0" + length.to_bytes(2, "big") + b"\0\0\x40\0\x40\x11\0\0" + source.packed + destination.packed
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return header + b"\0\x07\0\x07" + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload


async def main(options: argparse.Namespace) -> None:
    """One session."""
    builder = Client.builder().with_local_id("client@example.com").with_remote_id("server.example.com")
    builder.with_psk(os.environb[b"IKE_SECRET"]).with_remote_ports(options.ike_port, options.natt_port)
    async with builder.build() as client:
        session = await client.connect(options.host)
        print(f"connected: {session.info.suite}, tunnel MTU {session.mtu}")
        own = IPv4Address(str(session.path.local.host))
        for number in range(options.count):
            if number == options.count // 2:
                await client.rekey()
                print("rekeyed")
            await client.send_packet(udp_packet(own, IPv4Address("198.51.100.1"), b"packet %d" % number))
            print((await client.recv_packet())[28:].decode())
        print(client.metrics.snapshot())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("--ike-port", type=int, default=5500)
    parser.add_argument("--natt-port", type=int, default=5501)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--verbose", action="store_true", help="log every state transition")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
    try:
        asyncio.run(main(arguments))
    except IkeError as error:
        raise SystemExit(f"{error.error_code}: {error}") from None
