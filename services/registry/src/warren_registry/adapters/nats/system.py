"""The server's own words on connections: CONNECT and DISCONNECT events, CONNZ, and KICK.

CONNZ is asked of all servers at once; how many there are is unknown, so answers are gathered until it has been quiet for
a while. A cluster of three answers within milliseconds; the limit is for one that is overloaded.
"""

import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from warren_bus.connection import Connection as BusConnection
from warren_contracts.tokens import BUS_USER_PREFIX
from warren_registry.presence.connections import Connection, ConnectionEvent, ConnectionKey
from warren_service.callers import AGENTS, OPS

EVENTS = f"sys.$SYS.ACCOUNT.{AGENTS}.*"
CONNZ = "$SYS.REQ.SERVER.PING.CONNZ"
FIRST_ANSWER = 2.0  # s
QUIET = 0.3  # s without another answer
PAGE = 1_024  # connections an answer: the server's own default
MOST_ROUNDS = 64  # pages of one user's connections that are ended in one go: more than AGENTS may hold altogether


def parse_event(subject: str, data: bytes) -> ConnectionEvent | None:
    """An event of the server; None for one that concerns no connection."""
    kind = subject.rsplit(".", 1)[-1]
    if kind not in ("CONNECT", "DISCONNECT"):
        return None
    try:
        event = json.loads(data)
        client = event["client"]
        key = ConnectionKey(str(event["server"]["id"]), int(client["id"]))
        return ConnectionEvent(Connection(str(client["user"]), key), kind == "CONNECT", str(event.get("reason", "")))
    except (ValueError, KeyError, TypeError):
        return None


def account_of(user: str) -> str:
    """Where the callout places whoever has this name."""
    return OPS if user.startswith(BUS_USER_PREFIX) else AGENTS


class ServerSystem:
    """What the registry may ask of the servers."""

    def __init__(self, connection: BusConnection, page: int = PAGE) -> None:
        self._connection = connection
        self._page = page
        self._subscribed: Client | None = None

    async def follow(self, received: Callable[[ConnectionEvent], None]) -> None:
        """Subscribe to the events of connections; call it after every connect."""

        async def parse(message: Msg) -> None:
            event = parse_event(message.subject, message.data)
            if event is not None:
                received(event)

        client = self._connection.client
        if client is not self._subscribed:
            await client.subscribe(EVENTS, cb=parse)
            self._subscribed = client

    async def connections(self, user: str = "", account: str = AGENTS) -> tuple[Connection, ...]:
        """Every connection in an account, or those of one user."""
        found: list[Connection] = []
        offset = 0
        while True:
            more = False
            async for server, page in self._ask({"acc": account, "user": user, "offset": offset}):
                listed = page.get("connections") or []
                found += [
                    Connection(str(entry["authorized_user"]), ConnectionKey(server, int(entry["cid"])))
                    for entry in listed
                    if entry.get("authorized_user")
                ]
                more = more or offset + len(listed) < int(page.get("total", 0))
            if not more:
                return tuple(found)
            offset += self._page

    async def kick(self, user: str) -> int:
        """End every connection that a user has now; returns how many. Each is ended as soon as its server has named it, and
        the servers are asked again until they name none that is older than the first question: an answer holds one page. A
        younger one was let in by the rows of today. Raises TimeoutError when they do not end.

        A KICK must be a request: the server ignores one that it cannot answer. That the connection is gone already is a
        good answer too.
        """
        asked_at: dict[str, datetime] = {}  # by each server's own clock
        ended: set[ConnectionKey] = set()
        for _ in range(MOST_ROUNDS):
            old: set[ConnectionKey] = set()
            async for server, page in self._ask({"acc": account_of(user), "user": user, "offset": 0}):
                first = asked_at.setdefault(server, datetime.fromisoformat(page["now"]))
                for entry in page.get("connections") or []:
                    if datetime.fromisoformat(entry["start"]) > first:
                        continue
                    order = json.dumps({"cid": int(entry["cid"])}).encode()
                    await self._connection.client.request(f"$SYS.REQ.SERVER.{server}.KICK", order, timeout=FIRST_ANSWER)
                    old.add(ConnectionKey(server, int(entry["cid"])))
            if not old:
                return len(ended)
            ended |= old
        raise TimeoutError(f"the connections of {user} do not end")

    async def _ask(self, options: dict[str, Any]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        client: Client = self._connection.client
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        wait = FIRST_ANSWER
        try:
            question = {
                "auth": True,
                "limit": self._page,
                **{key: value for key, value in options.items() if value != ""},
            }
            await client.publish(CONNZ, json.dumps(question).encode(), reply=inbox)
            while True:
                try:
                    message = await answers.next_msg(timeout=wait)
                except NatsTimeoutError:
                    if wait == FIRST_ANSWER:
                        raise
                    return
                wait = QUIET
                answer = json.loads(message.data)
                yield str(answer["server"]["id"]), answer.get("data") or {}
        finally:
            if client.is_connected:
                await answers.unsubscribe()
