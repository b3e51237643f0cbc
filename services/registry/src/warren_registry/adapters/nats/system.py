"""The servers' connections: CONNECT and DISCONNECT events, CONNZ, and KICK.

CONNZ is requested from all servers at once; their number is unknown, so replies are collected until none arrives for a while. A
cluster of three replies within milliseconds; the limit is for an overloaded one.
"""

import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from warren_bus.connection import Connection
from warren_contracts.tokens import BUS_USER_PREFIX
from warren_registry.presence.connections import ConnectionEvent, ConnectionKey, PeerConnection, parse_host
from warren_service.callers import AGENTS, OPS

EVENTS = f"sys.$SYS.ACCOUNT.{AGENTS}.*"
CONNZ = "$SYS.REQ.SERVER.PING.CONNZ"
FIRST_REPLY = 2.0  # s
QUIET = 0.3  # s without another reply
PAGE = 1_024  # connections per reply: the server's own default
MAX_PAGES = 64  # pages of one user's connections that are closed by one call: more than AGENTS may have altogether


def parse_event(subject: str, data: bytes) -> ConnectionEvent | None:
    """Parse an event of the server; None unless it concerns a connection."""
    kind = subject.rsplit(".", 1)[-1]
    if kind not in ("CONNECT", "DISCONNECT"):
        return None
    try:
        event = json.loads(data)
        client = event["client"]
        key = ConnectionKey(str(event["server"]["id"]), int(client["id"]))
        host = parse_host(client, str(client.get("host", "")))
        connection = PeerConnection(str(client["user"]), key, host)
        return ConnectionEvent(connection, kind == "CONNECT", str(event.get("reason", "")))
    except (ValueError, KeyError, TypeError):
        return None


def account_of(user: str) -> str:
    """The account in which the callout places this user."""
    return OPS if user.startswith(BUS_USER_PREFIX) else AGENTS


class ServerSystem:
    """Requests to the servers, and their events."""

    def __init__(self, connection: Connection, page: int = PAGE) -> None:
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

    async def connections(self, user: str = "", account: str = AGENTS) -> tuple[PeerConnection, ...]:
        """Every connection in an account, or those of one user."""
        found: list[PeerConnection] = []
        offset = 0
        while True:
            more = False
            async for server, page in self._request({"acc": account, "user": user, "offset": offset}):
                listed = page.get("connections") or []
                found += [
                    PeerConnection(
                        str(entry["authorized_user"]),
                        ConnectionKey(server, int(entry["cid"])),
                        parse_host(entry, str(entry.get("ip", ""))),
                    )
                    for entry in listed
                    if entry.get("authorized_user")
                ]
                more = more or offset + len(listed) < int(page.get("total", 0))
            if not more:
                return tuple(found)
            offset += self._page

    async def kick(self, user: str) -> int:
        """Close every connection that a user has now; returns their number. Raises TimeoutError when they do not end.

        Each is closed as soon as its server has listed it, and CONNZ is repeated until no server lists one that is older than the
        first request: a reply holds one page. A younger connection was admitted by the current rows.

        A KICK must be a request: the server ignores one that it cannot reply to. The reply that the connection is closed already is
        a success, too.
        """
        first_reply_at: dict[str, datetime] = {}  # by each server's own clock
        closed: set[ConnectionKey] = set()
        for _ in range(MAX_PAGES):
            old: set[ConnectionKey] = set()
            async for server, page in self._request({"acc": account_of(user), "user": user, "offset": 0}):
                first = first_reply_at.setdefault(server, datetime.fromisoformat(page["now"]))
                for entry in page.get("connections") or []:
                    if datetime.fromisoformat(entry["start"]) > first:
                        continue
                    order = json.dumps({"cid": int(entry["cid"])}).encode()
                    await self._connection.client.request(f"$SYS.REQ.SERVER.{server}.KICK", order, timeout=FIRST_REPLY)
                    old.add(ConnectionKey(server, int(entry["cid"])))
            if not old:
                return len(closed)
            closed |= old
        raise TimeoutError(f"the connections of {user} do not end")

    async def _request(self, options: dict[str, Any]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        client: Client = self._connection.client
        inbox = client.new_inbox()
        replies = await client.subscribe(inbox)
        wait = FIRST_REPLY
        try:
            question = {
                "auth": True,
                "limit": self._page,
                **{key: value for key, value in options.items() if value != ""},
            }
            await client.publish(CONNZ, json.dumps(question).encode(), reply=inbox)
            while True:
                try:
                    message = await replies.next_msg(timeout=wait)
                except NatsTimeoutError:
                    if wait == FIRST_REPLY:
                        raise
                    return
                wait = QUIET
                reply = json.loads(message.data)
                yield str(reply["server"]["id"]), reply.get("data") or {}
        finally:
            if client.is_connected:
                await replies.unsubscribe()
