"""Connections by nats-py as it is released, such as a program of somebody else makes them."""

from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError


async def plain_client(url: str, **options: Any) -> Client | None:
    """A client that is connected; None: the server has refused it, or was slower to authorize it than it is patient.

    Two seconds after the connect the server sends a PING. If the authorization takes longer, nats-py takes that for the reply to its
    own, and returns without being connected.
    """
    try:
        client = await nats.connect(url, connect_timeout=60, **options)
    except (NatsError, OSError):
        return None
    if client.is_connected:
        return client
    await client.close()
    return None
