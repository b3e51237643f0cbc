"""F3: one request of 88 bytes with a foreign reply subject was delivered to every subscriber as 308 kB.

An enrolled peer, or an operator, directs replies to the subjects that others subscribe to. The server refuses them, and names the
sender in its log.
"""

from collections.abc import Callable

import pytest
from nats.aio.client import Client

from warren_bus.client_subjects import policy_get, secret_get
from warren_contracts import subjects
from warren_contracts.commands import Role
from warren_testkit.bus.accounts import Bus
from warren_testkit.waiting import eventually

LIVE = (
    subjects.live(subjects.policy("all")),
    subjects.live(subjects.policy("tag=hub")),
    subjects.live(subjects.digest("all")),
    subjects.live(subjects.directory("all", "gw2")),
    subjects.live(subjects.secret("gw2")),
)
REQUESTS: dict[str, Callable[[], str]] = {
    "stored policy": lambda: policy_get("all"),
    "stored secret": lambda: secret_get("gw1"),
    "acknowledgement": lambda: subjects.telemetry("gw1", "report"),
    "whoami": lambda: subjects.rpc_agent("gw1", "whoami"),
}


async def listening(bus: Bus) -> tuple[Client, list[str]]:
    """Another peer, and the subjects of what reaches its live subscriptions."""
    victim = await bus.agent("gw2", "hub")
    received: list[str] = []

    async def note(message: object) -> None:
        received.append(message.subject)  # type: ignore[attr-defined]  # nats-py's Msg

    for subject in LIVE[:3]:
        await victim.subscribe(subject, cb=note)
    await victim.subscribe(subjects.live("warren.v1.directory.all.*"), cb=note)
    await victim.flush()
    return victim, received


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_reply_reaches_no_subscriber_of_a_live_subject(bus: Bus, name: str) -> None:
    await bus.live.publish(*bus.live.fleet.assign({"all": ("p1",)}))
    victim, received = await listening(bus)
    attacker = await bus.agent("gw1", "hub")
    bus.errors["gw1"].clear()
    for target in LIVE:
        await attacker.publish(REQUESTS[name](), b"{}", reply=target)
    await attacker.flush()
    await eventually(lambda: len(bus.errors["gw1"]) == len(LIVE), what="a refusal of each")
    await victim.flush()
    assert received == []
    assert "Reply" in bus.server.log()
    honest = bus.live.fleet.assign({"all": ("p2",)})
    await bus.live.publish(*honest)
    await eventually(lambda: received == [LIVE[0]], what="the honest message arrives")


async def test_a_trace_of_a_message_reaches_no_subscriber_of_a_live_subject(bus: Bus) -> None:
    """nats-server publishes traces of a message to the subject in its header."""
    victim, received = await listening(bus)
    attacker = await bus.agent("gw1", "hub")
    for target in LIVE:
        for only in ("true", "false"):
            headers = {"Nats-Trace-Dest": target, "Nats-Trace-Only": only}
            await attacker.publish(subjects.telemetry("gw1", "report"), b"{}", headers=headers)
            await attacker.publish(policy_get("all"), b"", headers=headers)
    await attacker.flush()
    await bus.live.publish(*bus.live.fleet.assign({"all": ("p1",)}))
    await eventually(lambda: LIVE[0] in received, what="the honest message arrives")
    await victim.flush()
    assert received == [LIVE[0]]


async def test_the_subjects_of_the_services_are_not_the_agents(bus: Bus) -> None:
    """The stream's own subject is not imported: nobody in AGENTS receives what is published there."""
    attacker = await bus.agent("gw1", "hub")
    live = subjects.republished(subjects.policy("all"))
    await bus.refuses_publish(attacker, "gw1", live, LIVE[0])
    await bus.refuses_subscribe(attacker, "gw1", live)


async def test_a_viewer_places_nothing_on_the_events_of_other_operators(bus: Bus) -> None:
    """F14: replies of policy's RPC, and of a viewer's own messages, on the subject of events."""
    listener = await bus.operator("listener", Role.VIEWER)
    received: list[str] = []

    async def note(message: object) -> None:
        received.append(message.subject)  # type: ignore[attr-defined]  # nats-py's Msg

    event = subjects.live(subjects.event("policy", "changed", "p1"))
    await listener.subscribe(subjects.live("warren.v1.event.>"), cb=note)
    await listener.flush()
    viewer = await bus.operator("viewer", Role.VIEWER)
    bus.errors["op.viewer"].clear()
    await viewer.publish(subjects.rpc("policy", "list"), b"{}", reply=event)
    await viewer.publish(subjects.rpc("policy", "health"), b"{}", reply=event)
    await viewer.flush()
    await eventually(lambda: len(bus.errors["op.viewer"]) == 2, what="two refusals")
    await bus.refuses_publish(viewer, "op.viewer", event, subjects.event("policy", "changed", "p1"))
    await bus.live.client("policy").jetstream().publish(subjects.event("policy", "changed", "p1"), b"{}")
    await eventually(lambda: received == [event], what="the honest event arrives")
