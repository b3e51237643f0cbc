"""Composition of the auth callout: plain nats-py on the account AUTH, PostgreSQL, LISTEN."""

from contextlib import AsyncExitStack
from random import SystemRandom

from warren_bus.client_subjects import inbox
from warren_bus.connect_backoff import Uniform
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_callout.adapters.postgres import CHANNEL, PostgresCredentials, credential_store
from warren_callout.authorizer import Authorizer
from warren_callout.domain.credential_cache import CredentialCache
from warren_callout.handlers import Callout
from warren_callout.settings import CalloutSettings
from warren_process.stop_signals import until_signalled
from warren_store import Listener
from warren_trust.keys import KeyKind, read_seed

NAME = "callout"
MAX_RETRY_DELAY = 0.25  # s between two attempts to connect


class ShortRetry:
    """Random delays of a connection that must be back before the clients that it admits: while no callout listens, the
    server makes a connecting client wait for `authorization.timeout`. With one or two callouts there is no thundering herd."""

    def __init__(self, random: Uniform) -> None:
        self._random = random

    def uniform(self, low: float, high: float, /) -> float:
        return self._random.uniform(min(low, MAX_RETRY_DELAY / 2), min(high, MAX_RETRY_DELAY))


async def run(bus: BusSettings, settings: CalloutSettings) -> None:
    """Answer until SIGTERM or SIGINT. PostgreSQL and NATS may come and go in any order."""
    await until_signalled(_answer(bus, settings))


async def _answer(bus: BusSettings, settings: CalloutSettings) -> None:
    issuer = read_seed(settings.issuer_key_file, KeyKind.ACCOUNT)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(credential_store(settings.postgres_dsn))
        authorizer = Authorizer(PostgresCredentials(store), CredentialCache(), prober=bus.caller_keys.get("api", ""))
        connection = await stack.enter_async_context(
            Connection(bus, name=NAME, inbox_prefix=inbox(NAME), rng=ShortRetry(SystemRandom()))
        )
        connection.on_connected(Callout(connection, authorizer, issuer).listen)
        listener = Listener(store, CHANNEL, on_gap=authorizer.reload, on_notify=authorizer.refresh)
        await listener.run()
