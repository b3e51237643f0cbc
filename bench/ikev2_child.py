"""The responder of `ikev2_ike`, a process of its own: prints its ports, serves until its standard input ends."""

from __future__ import annotations

import asyncio
import sys

from warren_ikev2.aio import Server
from warren_ikev2.configuration import Limits

SECRET = b"the benchmark's secret"
PROPOSALS = ([("aes256gcm16", "prfsha384", "x25519")], [("aes256gcm16",)])


async def main() -> None:
    builder = Server.builder().with_psk(SECRET).with_local_id("server").with_proposals(*PROPOSALS)
    builder.with_networks(["10.2.0.0/16"], ["10.1.0.0/16"]).with_dpd(None).with_options(initial_contact=False)
    builder.with_limits(Limits(half_open_per_address=1000, cookie_threshold=100_000))
    server = await builder.bind("127.0.0.1", 0, 0)
    print(server.ike_address.port, server.natt_address.port, flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.stop()


if __name__ == "__main__":
    asyncio.run(main())
