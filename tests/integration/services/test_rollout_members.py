"""Which gateways a rollout counts, with the registry's real directory: members by tag, before any of them reports a tunnel."""

import asyncio
import signal
from datetime import UTC, datetime
from functools import partial
from typing import Any

from warren_bus.publisher import EventPublisher
from warren_bus.rpc import call
from warren_contracts import subjects
from warren_contracts.commands import Empty, Health, Page, PeerChange, RevokePeer
from warren_contracts.events import PeerEnrolled, PeerRetagged, PeerRevoked
from warren_contracts.peers import PeerSummary
from warren_contracts.policy import Policy
from warren_contracts.problems import WarrenError
from warren_contracts.rollouts import RolloutList
from warren_metrics.handlers import register_membership
from warren_service.broker import build_broker
from warren_testkit.bus import RealServer, free_port
from warren_testkit.registry.stack import LIMIT, Stack
from warren_testkit.waiting import eventually

LABS = Policy.model_validate({"id": "labs", "topology": {"kind": "mesh", "members": ["tag=lab"]}})

until = partial(eventually, limit_s=LIMIT, ignoring=(WarrenError,), pause_s=0.05)


class Progress:
    """What metrics replies."""

    def __init__(self, stack: Stack) -> None:
        self._client = stack.api.client

    async def ask(self, verb: str, request: Any, reply: Any) -> Any:
        return await call(self._client, subjects.rpc("metrics", verb), request, reply)

    async def gateways(self) -> dict[str, int]:
        """The number of gateways of the one policy, by state, without those that are none."""
        found: RolloutList = await self.ask("rollouts", Page(), RolloutList)
        return {state.value: n for it in found.rollouts for state, n in it.gateways.items() if n}

    async def waiting(self) -> list[str]:
        found: RolloutList = await self.ask("rollouts", Page(), RolloutList)
        return [it.peer for it in found.rollouts[0].waiting]

    async def wait(self, **wanted: int) -> None:
        async def as_wanted() -> bool:
            return await self.gateways() == wanted

        await until(as_wanted, what=f"gateways {wanted}")

    async def wait_remark(self, part: str) -> None:
        """Wait until the health of the service says this of the directory; nothing, if `part` is empty."""

        async def as_wanted() -> bool:
            health: Health = await self.ask("health", Empty(), Health)
            remark = health.remarks.get("directory", "")
            return health.ready and (part in remark if part else remark == "")

        await until(as_wanted, what=f"the remark {part!r}")


async def test_members_by_tag_count_as_soon_as_the_policy_is_published(
    stack: Stack, process: Any, environ_of: Any
) -> None:
    environ = environ_of("metrics", stack.database.dsn()) | {"WARREN_METRICS_PORT": str(free_port())}
    await process("warren_metrics", environ).start()
    progress = Progress(stack)
    await progress.wait_remark("")
    for name in ("gw1", "gw2", "gw3"):
        agent = await stack.agent(name, "lab")
        await agent.beat()
    await stack.publish_policies(("tag=lab",), LABS)
    await progress.wait(pending=3)

    await stack.ask("retag", PeerChange(peer="gw2", tags=("branch",), actor="ann"), PeerSummary)
    await progress.wait(pending=2)
    assert await progress.waiting() == ["gw1", "gw3"]
    await stack.ask("revoke", RevokePeer(peer="gw1", actor="ann"), PeerSummary)
    await progress.wait(pending=1)
    assert await progress.waiting() == ["gw3"]

    await stack.registry.end(signal.SIGKILL)  # what was read stays, and the service stays ready
    await progress.wait_remark("the last directory")
    assert await progress.waiting() == ["gw3"]
    await stack.registry.start()
    await stack.ready()
    await progress.wait_remark("")
    await stack.ask("retag", PeerChange(peer="gw2", tags=("lab",), actor="ann"), PeerSummary)
    await progress.wait(pending=2)


async def test_a_change_of_the_members_is_an_event_that_metrics_may_receive(bus: RealServer, connect: Any) -> None:
    """Without the event the directory is read 30 s later."""
    at, registry = datetime.now(UTC), await connect("registry")
    publisher = EventPublisher(lambda: registry.client, "/registry")
    broker, changed = build_broker(bus.settings("metrics"), "metrics"), asyncio.Event()
    register_membership(broker, changed.set)
    await broker.start()
    try:
        await broker.client.flush()
        for kind, event in (
            ("enrolled", PeerEnrolled(peer="gw1", tags=("lab",), at=at)),
            ("retagged", PeerRetagged(peer="gw1", tags=(), actor="ann", at=at)),
            ("revoked", PeerRevoked(peer="gw1", actor="ann", at=at)),
        ):
            changed.clear()
            await publisher.publish(f"{subjects.VERSION}.event.registry.{kind}.gw1", event.TYPE, event)
            await asyncio.wait_for(changed.wait(), LIMIT)
    finally:
        await broker.stop()
