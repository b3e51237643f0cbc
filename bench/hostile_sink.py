"""A server that is none of ours, for the load of an attacker: `python hostile_sink.py CERTIFICATE KEY` prints its port.

It takes TLS connections, greets as nats-server does, answers every PING, refuses unauthenticated clients, and drops the rest. It ends
with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

INFO = {
    "server_id": "sink",
    "version": "2.15.1",
    "proto": 1,
    "headers": True,
    "max_payload": 1 << 20,
    "nonce": "bm9uY2U",
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
    try:
        while data := await reader.read(1 << 16):
            if b'"unauthenticated"' in data:
                writer.write(b"-ERR 'Authorization Violation'\r\n")
                break
            writer.write(b"PONG\r\n" * data.count(b"PING\r\n"))
    except OSError:
        pass
    finally:
        writer.close()


async def main(certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ended = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await ended.read()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
