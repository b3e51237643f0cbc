"""Tokens that are taken back, as an operator sees it: on the real registry, callout, nats-server and PostgreSQL."""

import signal

import pytest
from nats.aio.client import Client

from warren_contracts.commands import (
    CreateOperatorToken,
    JoinTokenList,
    JoinTokenSummary,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    Page,
    RemoveJoinToken,
    RemoveOperatorToken,
    Role,
)
from warren_contracts.problems import WarrenError
from warren_testkit.bus.plain_client import plain_client
from warren_testkit.registry.stack import Agent, Stack, raw_connect, refused
from warren_testkit.waiting import eventually


async def operating(stack: Stack, name: str, lifetime: int | None = None) -> tuple[OperatorToken, Client]:
    """An operator's token and a connection by it, which does not come back by itself."""
    command = CreateOperatorToken(name=name, role=Role.OPERATOR, lifetime=lifetime)
    token: OperatorToken = await stack.ask("create_operator_token", command, OperatorToken)

    async def connected() -> Client | None:
        if lifetime is not None:
            stack.database.sql(
                "UPDATE registry.operator_token SET expires_at = now() + '2 s' WHERE expires_at IS NOT NULL"
            )
        return await plain_client(
            stack.bus.url, token=token.token, inbox_prefix=f"_INBOX.op.{name}", allow_reconnect=False, error_cb=_quiet
        )

    client: Client = await eventually(connected)  # on a busy machine the two seconds may be over
    return token, client


async def _quiet(_: Exception) -> None:
    """Being thrown out is what these tests wait for."""


async def test_a_removed_and_an_expired_operator_lose_their_connections(stack: Stack) -> None:
    kept, stays = await operating(stack, "kept")
    removed, client = await operating(stack, "removed")
    with pytest.raises(WarrenError, match="exists already"):
        await stack.ask("create_operator_token", CreateOperatorToken(name="removed", role=Role.ADMIN), OperatorToken)
    gone = await stack.ask("remove_operator_token", RemoveOperatorToken(name="removed"), OperatorTokenSummary)
    assert gone.name == "removed"
    await eventually(lambda: client.is_closed, what="the removed operator's end")
    assert await raw_connect(stack.bus.port, {"auth_token": removed.token}) == "Authorization Violation"
    _, expiring = await operating(stack, "expiring", lifetime=60)
    await eventually(lambda: expiring.is_closed, what="the expired operator's end")
    listed = await stack.ask("operator_tokens", Page(), OperatorTokenList)
    assert [item.name for item in listed.tokens] == ["expiring", "kept"]
    assert stays.is_connected
    assert await raw_connect(stack.bus.port, {"auth_token": kept.token}) == "ok"
    await stays.close()


async def test_a_sweep_ends_operators_whose_row_went_unseen(stack: Stack) -> None:
    _, stays = await operating(stack, "kept")
    clients = [(await operating(stack, name))[1] for name in ("deleted", "ended")]
    await stack.registry.end(signal.SIGKILL)
    stack.database.sql("DELETE FROM registry.operator_token WHERE name = 'deleted'")
    stack.database.sql("UPDATE registry.operator_token SET expires_at = now() WHERE name = 'ended'")
    await stack.registry.start()
    await eventually(lambda: all(client.is_closed for client in clients), 60, "the end of both connections")
    assert stays.is_connected
    await stays.close()


async def test_a_removed_join_token_lets_nobody_in(stack: Stack) -> None:
    token = await stack.join_token("branch", uses=2)
    await Agent(stack, "spoke-1").enrol(token)
    (held,) = (await stack.ask("join_tokens", Page(), JoinTokenList)).tokens
    assert (held.used, held.uses, held.tags) == (1, 2, ("branch",))
    await stack.ask("remove_join_token", RemoveJoinToken(id=held.id), JoinTokenSummary)
    with pytest.raises(WarrenError, match="list the tokens"):
        await stack.ask("remove_join_token", RemoveJoinToken(id=held.id), JoinTokenSummary)
    late = Agent(stack, "spoke-2")
    assert await refused(late.settings, token)
    assert (await stack.peer("spoke-1")).revoked is False
