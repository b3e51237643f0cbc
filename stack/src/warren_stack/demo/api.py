"""A client of the API server, as an operator's program has: REST, and server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from warren_cli.errors import CliError
from warren_cli.remote.server_trust import ServerTrust
from warren_contracts.commands import ApplyReply, PeerList, TunnelList
from warren_contracts.events import PolicyApplied
from warren_contracts.http_bodies import ApplyRequest, SignInCode
from warren_contracts.peers import JoinToken, JoinTokenRequest, PeerSummary
from warren_contracts.policy import Policy
from warren_contracts.status import FleetTunnel
from warren_lab.errors import TimedOutError

REPLY_LIMIT_SECONDS = 15.0


class Api:
    """A client of one API server with an operator's token. Use as an async context manager."""

    def __init__(self, url: str, token_file: Path) -> None:
        token = token_file.read_text().strip()
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=REPLY_LIMIT_SECONDS,
            trust_env=False,
            verify=ServerTrust().next_to(token_file).context(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def join_token(self, request: JoinTokenRequest) -> JoinToken:
        """A new join token."""
        return JoinToken.model_validate(await self._ask("POST", "/api/join-tokens", request.model_dump(mode="json")))

    async def apply(self, policy: Policy) -> ApplyReply:
        """Create the policy, or replace the one of its id."""
        body = ApplyRequest(policies=(policy,)).model_dump(mode="json", exclude_unset=True)
        return ApplyReply.model_validate(await self._ask("POST", "/api/policies:apply", body))

    async def delete(self, policy: str) -> ApplyReply:
        """Withdraw a policy."""
        return ApplyReply.model_validate(await self._ask("DELETE", f"/api/policies/{policy}"))

    async def peers(self) -> list[PeerSummary]:
        """Every peer (the demo's three fit in one page)."""
        return list(PeerList.model_validate(await self._ask("GET", "/api/peers")).peers)

    async def tunnels(self) -> list[FleetTunnel]:
        """Every tunnel (the demo's two fit in one page)."""
        return list(TunnelList.model_validate(await self._ask("GET", "/api/tunnels")).tunnels)

    async def sign_in_path(self) -> str | None:
        """The path of a link that signs a browser in once, within a minute; None: the web page was not built."""
        if (await self._client.get("/")).is_error:
            return None
        return SignInCode.model_validate(await self._ask("POST", "/api/session/codes")).path

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator["ServerSentEvents"]:
        """Agents' reports of what they applied, from now on."""
        limits = httpx.Timeout(REPLY_LIMIT_SECONDS, read=None)
        applied = {"kind": "applied"}
        async with self._client.stream("GET", "/api/events", params=applied, timeout=limits) as reply:
            if reply.status_code != httpx.codes.OK:
                raise CliError(f"GET /api/events: {reply.status_code} {(await reply.aread()).decode()[:300]}")
            events = ServerSentEvents(reply)
            await events.connected()
            yield events

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            reply = await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise CliError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if reply.is_error:
            raise CliError(f"{method} {path}: {reply.status_code} {reply.text[:500]}")
        return reply.json() if reply.content else None


class ServerSentEvents:
    """Server-sent events (WHATWG HTML, 9.2) as they come."""

    def __init__(self, reply: httpx.Response) -> None:
        self._lines = reply.aiter_lines()

    async def connected(self) -> None:
        """Wait until the API server confirms the subscription.

        Raises:
            CliError: it ended the stream instead.
        """
        async for line in self._lines:
            if line == ": connected":
                return
        raise CliError("GET /api/events: the API server ended the stream")

    async def applied(self, revision: int, peers: set[str], limit_seconds: float) -> list[PolicyApplied]:
        """The first report of each of these peers that it applied this revision or a later one.

        Raises:
            TimedOutError: they did not all report within the limit.
        """
        found: dict[str, PolicyApplied] = {}
        last: dict[str, PolicyApplied] = {}
        try:
            async with asyncio.timeout(limit_seconds):
                async for kind, data in self._read():
                    if kind != PolicyApplied.TYPE:
                        continue
                    event = PolicyApplied.model_validate(data["data"])  # of the CloudEvent
                    last[event.peer] = event
                    if event.peer in peers and event.revision >= revision:
                        found.setdefault(event.peer, event)
                    if set(found) == peers:
                        return list(found.values())
        except TimeoutError:
            pass
        silent = sorted(peers - set(found))
        reported = ", ".join(f"{peer} {_said(last.get(peer))}" for peer in silent)
        raise TimedOutError(
            f"no report from {', '.join(silent)} that revision {revision} is applied (reported since then: {reported})"
        )

    async def _read(self) -> AsyncIterator[tuple[str, Any]]:
        kind, data = "", []
        async for line in self._lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "data":
                data.append(value)
            elif not line and data:
                yield kind, json.loads("\n".join(data))
                kind, data = "", []


def _said(event: PolicyApplied | None) -> str:
    if event is None:
        return "nothing"
    return f"revision {event.revision}" + ("" if event.ok else f" ({event.error})")
