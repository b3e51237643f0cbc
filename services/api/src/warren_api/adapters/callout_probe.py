"""Probe the auth callout: a connection of a new key with a probe's token must be answered at once.

The callout has an account of its own, where no service can call it; so the probe is a connection like any other, which the callout
knows by its token and gives no rights. While it is unavailable the server keeps a new connection waiting for its authorization timeout.
"""

import asyncio
from contextlib import suppress

from nats.aio.client import Client
from nats.errors import Error as NatsError

from warren_bus.client import PatchedClient
from warren_bus.probe_token import build_probe_token
from warren_bus.settings import BusSettings
from warren_bus.tls import ClientTls
from warren_trust.keys import KeyKind, KeyPair, call_key

LIMIT = 2.0  # s; a callout answers within milliseconds, also while PostgreSQL is unavailable


async def callout_answers(settings: BusSettings, limit: float = LIMIT) -> bool:
    """Whether a connection to the servers of `settings` is accepted or refused within `limit` seconds. Raises InvalidKeyError."""
    client, key = PatchedClient(), KeyPair.generate(KeyKind.USER)
    token = build_probe_token(call_key(settings.key()), key.public)
    client.tls = ClientTls(settings.ca_file) if settings.ca_file is not None else None
    try:
        async with asyncio.timeout(limit):
            await client.connect(
                servers=list(settings.servers), name="api-probe", nkeys_seed_str=key.seed, token=token,
                allow_reconnect=False, max_reconnect_attempts=1, connect_timeout=max(1, int(limit)), error_cb=_ignore,
                tls_hostname=settings.server_name or None,
            )  # fmt: skip
    except (NatsError, OSError, TimeoutError) as error:
        return "authorization" in str(error).lower()
    else:
        return True
    finally:
        with suppress(OSError, NatsError):
            await client._close(Client.CLOSED, do_cbs=False)


async def _ignore(error: Exception) -> None:
    """Ignore errors: `connect` raises the refusal."""
