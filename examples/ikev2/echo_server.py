"""A gateway that answers every packet by sending it back with its addresses exchanged.

    python examples/ikev2/echo_server.py --bind 127.0.0.1 --ike-port 5500 --natt-port 5501

Prints its counters for Prometheus when it is stopped with Ctrl-C.
"""

import argparse
import asyncio
import logging
import os

from warren_ikev2.aio import Server, Session
from warren_ikev2.errors import SessionClosedError


async def echo(session: Session) -> None:
    """Serve one peer until it goes."""
    print(f"{session.info.remote_identity} from {session.path.remote}, {session.info.suite}", flush=True)
    try:
        while True:
            packet = await session.recv_packet()
            await session.send_packet(packet[:12] + packet[16:20] + packet[12:16] + packet[20:])
    except SessionClosedError as closed:
        print(closed, flush=True)


async def main(options: argparse.Namespace) -> None:
    """Accept peers for ever."""
    builder = Server.builder().with_local_id("server.example.com").with_psk(os.environb[b"IKE_SECRET"])
    async with await builder.bind(options.bind, options.ike_port, options.natt_port) as server:
        print(f"listening on {server.ike_address} and {server.natt_address}", flush=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                async for session in server:
                    tasks.create_task(echo(session))
        finally:
            print(server.metrics.prometheus(), end="", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--ike-port", type=int, default=5500)
    parser.add_argument("--natt-port", type=int, default=5501)
    parser.add_argument("--verbose", action="store_true", help="log every state transition")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
    try:
        asyncio.run(main(arguments))
    except KeyboardInterrupt:
        print("stopped")
