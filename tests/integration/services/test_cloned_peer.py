"""A disk that was cloned to a second host: two hosts with one key, on the real registry, callout and nats-server."""

import pytest

from warren_agent.host_identity import connection_name, host_id
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.problems import ConflictError
from warren_contracts.verdicts import identity_in_use
from warren_registry.presence.connections import parse_host
from warren_testkit.registry.stack import Agent, Stack, last_event, until


async def joined(stack: Stack, host: str, **said: object) -> Agent:
    agent = Agent(stack, "hub")
    await agent.enrol(await stack.join_token("hub"))
    await agent.connect(host)
    await agent.announce(**said)
    await agent.beat(kernel=host)
    return agent


async def test_a_clone_is_shown_and_does_not_replace_the_record_or_the_facts(stack: Stack) -> None:
    original = await joined(stack, "rack-1", endpoints=["192.0.2.1"])
    clone = original.clone()
    await clone.connect("rack-2")
    with pytest.raises(
        ConflictError, match=r"identity in use by two hosts: rack-1 at 127\.0\.0\.1 \(the record is its\); rack-2"
    ):
        await clone.announce(endpoints=["198.51.100.9"])
    await clone.beat(kernel="rack-2")
    await clone.beat("stopping")
    await original.beat(kernel="rack-1")

    async def shown() -> PeerSummary | None:
        found = await stack.peer("hub")
        return found if len(found.hosts) == 2 and found.host is not None else None

    found: PeerSummary = await until(shown, what="both hosts")
    assert [(host.name, host.holds_record) for host in found.hosts] == [("rack-1", True), ("rack-2", False)]
    assert [str(it) for it in found.record.endpoints] == ["192.0.2.1"]
    assert found.host is not None
    assert (found.host.kernel, found.presence, found.refused) == ("rack-1", PresenceState.ONLINE, "")

    async def remarked() -> str:
        return str((await stack.health()).remarks.get("identities", ""))

    remark = await until(remarked, what="the remark of the registry's health")
    assert remark == f"hub: {identity_in_use(found.hosts)}"
    assert (await stack.health()).ready
    event = await until(lambda: last_event(stack, "registry.shared_key.hub"), what="the event")
    assert [host["name"] for host in event["hosts"]] == ["rack-1", "rack-2"]

    await original.announce(endpoints=["192.0.2.2"])  # it goes on announcing
    await clone.leave()

    async def alone() -> bool:
        return not (await stack.peer("hub")).hosts and not await remarked()

    await until(alone, what="the clone is gone")
    assert [str(it) for it in (await stack.peer("hub")).record.endpoints] == ["192.0.2.2"]


async def test_the_holder_may_restart_while_a_clone_waits_for_its_place(stack: Stack) -> None:
    original = await joined(stack, "rack-1", endpoints=["192.0.2.1"])
    clone = original.clone()
    await clone.connect("rack-2")
    with pytest.raises(ConflictError):
        await clone.announce(endpoints=["198.51.100.9"])
    await original.leave()
    with pytest.raises(ConflictError, match="identity in use by two hosts: rack-1"):
        await clone.announce(endpoints=["198.51.100.9"])
    await original.connect("rack-1")
    assert (await original.announce(endpoints=["192.0.2.3"])).changed
    assert [str(it) for it in (await stack.peer("hub")).record.endpoints] == ["192.0.2.3"]


async def test_a_restart_and_a_moved_disk_are_no_conflict(stack: Stack) -> None:
    agent = await joined(stack, "rack-1", endpoints=["192.0.2.1"])
    await agent.leave()
    for host, address in (("rack-1", "192.0.2.2"), ("rack-2", "192.0.2.3")):
        await agent.connect(host)
        assert (await agent.announce(endpoints=[address])).changed
        await agent.leave()


def test_the_registry_reads_the_name_that_an_agent_gives_its_connection() -> None:
    found = parse_host({"name": connection_name("hub", "0123456789abcdef")}, "192.0.2.1")
    assert (found.instance, found.host_id) == ("0123456789abcdef", host_id())
    assert found.name
