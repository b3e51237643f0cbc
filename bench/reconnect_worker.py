"""A process full of agents that connect, and connect again whenever the bus is lost: `python reconnect_worker.py` reads its task.

An agent is its TLS handshake, its signed nonce and its back-off, which are those of `warren_bus`; no more, so that the server's side
is measured. It prints `connected N T` when all N agents are connected (T: seconds, CLOCK_MONOTONIC), and `refused N` at the end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from warren_bus.connect_backoff import RETURN_SPREAD, ConnectBackoff
from warren_bus.dial import CONNECT_TIMEOUT, DIAL_TIMEOUT
from warren_bus.tls import client_context
from warren_trust.keys import KeyKind, KeyPair, read_seed


class Fleet:
    """The agents of this process."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._host, self._port = task["host"], task["port"]
        self._context = client_context(Path(task["ca_file"]).read_text())
        self.keys = [read_seed(Path(path), KeyKind.USER) for path in task["seeds"]]
        self.connected = 0
        self.refused = 0
        self.failed = 0

    async def agent(self, key: KeyPair, number: int) -> None:
        backoff = ConnectBackoff(Random(number), RETURN_SPREAD)
        while True:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT):
                    reader, writer = await self._connect(key)
            except (OSError, TimeoutError, EOFError, ValueError) as error:
                self.failed += 1
                backoff.failed(error)
                await asyncio.sleep(backoff.next())
                continue
            backoff.succeeded()
            self.connected += 1
            if self.connected == len(self.keys):
                print("connected", self.connected, time.monotonic(), flush=True)
            try:
                while await reader.read(4096):
                    pass
            except OSError:
                pass
            self.connected -= 1
            writer.transport.abort()
            await asyncio.sleep(backoff.next())

    async def _connect(self, key: KeyPair) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._context, server_hostname=self._host, limit=1 << 13
            )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                info = json.loads((await reader.readline()).removeprefix(b"INFO "))
            signature = base64.b64encode(key.sign(info["nonce"].encode())).decode()
            command = {
                "nkey": key.public,
                "sig": signature,
                "lang": "python3",
                "version": "2",
                "protocol": 1,
                "headers": True,
            }
            writer.write(b"CONNECT " + json.dumps(command).encode() + b"\r\nPING\r\n")
            async with asyncio.timeout(CONNECT_TIMEOUT):
                while (answer := await reader.readline()) != b"PONG\r\n":  # another INFO may come first
                    if not answer:
                        raise EOFError
                    if answer.startswith(b"-ERR"):
                        self.refused += b"Authorization" in answer
                        raise ValueError(answer.decode())
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer


async def main() -> None:
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    fleet = Fleet(json.loads(await lines.readline()))
    agents = [asyncio.create_task(fleet.agent(key, number)) for number, key in enumerate(fleet.keys)]
    while line := await lines.readline():
        if line == b"count\n":
            print("count", fleet.refused, fleet.failed, flush=True)
            fleet.refused = fleet.failed = 0
    for agent in agents:
        agent.cancel()


if __name__ == "__main__":
    asyncio.run(main())
