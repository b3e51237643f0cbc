"""Probe the auth callout: a connection with an unknown key must be refused at once.

The callout has an account of its own, where no service can call it; so the probe is a connection like any other. While it is
unavailable the server keeps a new connection waiting for its authorization timeout (30 s).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from nats.aio.client import Client
from nats.errors import Error as NatsError

from warren_trust.keys import KeyKind, KeyPair

LIMIT = 2.0  # s; a callout answers within milliseconds, also while PostgreSQL is unavailable


async def callout_answers(servers: Sequence[str], limit: float = LIMIT) -> bool:
    """Whether a connection with an unknown key is refused within `limit` seconds."""
    client = Client()
    try:
        async with asyncio.timeout(limit):
            await client.connect(
                servers=list(servers), name="api-probe", nkeys_seed_str=KeyPair.generate(KeyKind.USER).seed,
                allow_reconnect=False, max_reconnect_attempts=1, connect_timeout=max(1, int(limit)), error_cb=_ignore,
            )  # fmt: skip
    except (NatsError, OSError, TimeoutError) as error:
        return "authorization" in str(error).lower()
    else:
        return True  # a server without a callout: no connection waits for one
    finally:
        with suppress(OSError, NatsError):
            await client._close(Client.CLOSED, do_cbs=False)


async def _ignore(error: Exception) -> None:
    """Ignore errors: `connect` raises the refusal."""
