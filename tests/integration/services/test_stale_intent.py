"""A bus that withholds the registry's digests: a real feed notices, and operators see which gateways may be outdated."""

import signal
import time
from types import SimpleNamespace

import pytest

from warren_agent.adapters.bus import BusSource
from warren_agent.host import HostSurvey
from warren_contracts.status import HostFacts
from warren_contracts.verdicts import INTENT_STALE_S, intent_is_stale
from warren_testkit.registry.stack import Agent, Stack, until


async def test_a_gateway_without_digests_is_shown_as_stale_until_one_arrives(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(stack, "hub")
    reply = await agent.enrol(await stack.join_token("hub"))
    await agent.connect("rack-1")
    await agent.announce()
    feed = await agent.feed(reply)
    source = BusSource(feed)
    survey = HostSurvey((), time.monotonic, unconfirmed_s=source.unconfirmed_s)

    async def reported(facts: HostFacts) -> None:
        await agent.beat(**facts.model_dump(mode="json", exclude_none=True))

    async def remark() -> str:
        return str((await stack.health()).remarks.get("intents", ""))

    await until(lambda: feed.machine.synchronised, what="the feed")
    await reported(survey.facts(()))
    assert not intent_is_stale(survey.facts(()))
    await stack.registry.end(signal.SIGKILL)  # no digest is made any more, and the bus stays connected
    with monkeypatch.context() as later:
        later.setattr(
            "warren_agent.adapters.bus.time", SimpleNamespace(monotonic=lambda: time.monotonic() + INTENT_STALE_S)
        )
        await until(lambda: intent_is_stale(survey.facts(())), what="a feed that misses them")
        await reported(survey.facts(()))
    await stack.registry.start()
    await stack.ready()
    assert await until(remark, what="the remark of the registry's health") == (
        "stale at hub: the registry's digests do not arrive there; see registry and NATS"
    )
    found = await stack.peer("hub")
    assert intent_is_stale(found.host)
    assert (await stack.health()).ready

    async def confirmed() -> bool:
        await reported(survey.facts(()))
        return not await remark() and not intent_is_stale((await stack.peer("hub")).host)

    await until(confirmed, what="digests of the registry that is back")
