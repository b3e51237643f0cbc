"""Edits that follow each other at once, on two real charons: the last one stands, and nothing older remains.

The agents run in the test's process, so that an edit reaches each end exactly when the test says.
"""

import functools
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warren_contracts.status import ReasonCode, TunnelState
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, agents_of
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

NAME = "hub+spoke"
LIMIT = 90.0  # s; bench/ measures how long it takes
TWO_CHILDREN = [{"name": "tcp", "protocol": "tcp"}, {"name": "udp", "protocol": "udp"}]
# What an edit can change: nothing that is negotiated, one CHILD_SA, the IKE_SA, both, and the number of children.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "esp": {"crypto": {"esp": ["chacha20poly1305-x25519"]}},
    "child-life": {"options": {"child": {"rekey_time": 1800}}},
    "ike": {"crypto": {"ike": ["aes256gcm16-prfsha512-ecp384"]}},
    "dpd": {"options": {"ike": {"dpd_delay": 17}}},
    "both": {"crypto": {"ike": ["aes128gcm16-prfsha256-x25519"], "esp": ["aes128gcm16-x25519"]}},
    "children": {"children": TWO_CHILDREN},
    "deleted": {"enabled": False},
}


class Edit(NamedTuple):
    """One edit: what it says, which ends get it, and whether the next one waits until it is applied there."""

    variant: str
    ends: tuple[int, ...]
    waits: bool


EDITS = st.builds(Edit, st.sampled_from(list(VARIANTS)), st.sampled_from([(0, 1), (1, 0), (1,), (0,)]), st.booleans())


@pytest.fixture
async def agents(both: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:
    async with agents_of(*both) as found:
        yield found


def expected(variant: str) -> tuple[str, set[tuple[str, str, bool]]]:
    """IKE cipher and CHILD_SAs of an edit: name, cipher, and whether they live longer than half an hour."""
    policy = VARIANTS[variant]
    ike = {"ike": "aes256gcm16-prfsha512-ecp384", "both": "aes128gcm16-prfsha256-x25519"}.get(variant)
    esp = policy.get("crypto", {}).get("esp", ["aes256gcm16-x25519"])[0].rpartition("-")[0]
    names = [child["name"] for child in policy.get("children", [{"name": "net"}])]
    return ike or "aes256gcm16-prfsha384-x25519", {(name, esp, variant != "child-life") for name in names}


async def stands(agent: LocalAgent, variant: str) -> bool:
    """Whether charon holds exactly this edit at one end: one connection, one IKE_SA of it, one CHILD_SA for each child."""
    connections, sas = await agent.connections(), await agent.gateway.ike_sas()
    if variant == "deleted":
        return not sas and not connections
    status = await agent.status(NAME)
    if status is None or len(sas) != 1 or [*connections] != [str(sas[0].handle)]:
        return False
    (children,) = connections.values()
    installed = [child for child in sas[0].children if child.state == "INSTALLED"]
    found = {(it.child, it.cipher, (it.rekey_in or 0) > 1_800) for it in status.link.children}
    return (
        sorted(str(child.handle) for child in installed) == sorted(children)
        and (status.link.ike_cipher, found) == expected(variant)
        and (status.state, status.reason) == (TunnelState.UP, ReasonCode.NONE)
    )


async def last_one_stands(agents: tuple[LocalAgent, LocalAgent], variant: str) -> None:
    for agent in agents:
        try:
            await eventually(functools.partial(stands, agent, variant), LIMIT, pause_s=0.1)
        except AssertionError:
            print(agent.gateway.name, await agent.gateway.ike_sas(), await agent.connections())
            print(await agent.driver.list_tunnels(), agent.gateway.log[-5000:])
            raise


async def edit(agents: tuple[LocalAgent, LocalAgent], change: Edit) -> None:
    for end in change.ends:
        revision = agents[end].give(STAR | VARIANTS[change.variant])
        if change.waits:
            await agents[end].applied(revision)


@settings(
    max_examples=6, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(edits=st.lists(EDITS, min_size=2, max_size=6), last=st.sampled_from(list(VARIANTS)))
async def test_last_of_any_edits_stands(agents: tuple[LocalAgent, LocalAgent], edits: list[Edit], last: str) -> None:
    for change in edits:
        await edit(agents, change)
    await edit(agents, Edit(last, (0, 1), waits=False))
    await last_one_stands(agents, last)


@pytest.mark.parametrize("other", ["esp", "child-life", "ike", "dpd", "children"])
async def test_edit_that_is_taken_back_at_once_is_taken_back(agents: tuple[LocalAgent, LocalAgent], other: str) -> None:
    await edit(agents, Edit("plain", (0, 1), waits=True))
    await last_one_stands(agents, "plain")
    for variant in (other, "plain"):
        await edit(agents, Edit(variant, (0, 1), waits=True))
    await last_one_stands(agents, "plain")


@pytest.mark.parametrize("other", ["esp", "ike"])
async def test_edit_that_the_peer_refuses_and_that_is_taken_back_leaves_no_reason(
    agents: tuple[LocalAgent, LocalAgent], other: str
) -> None:
    await edit(agents, Edit("plain", (0, 1), waits=True))
    await last_one_stands(agents, "plain")
    await edit(agents, Edit(other, (1,), waits=True))

    async def is_refused() -> bool:
        status = await agents[1].status(NAME)
        return status is not None and status.reason is not ReasonCode.NONE

    await eventually(is_refused, LIMIT)
    await edit(agents, Edit("plain", (1,), waits=True))
    await last_one_stands(agents, "plain")
