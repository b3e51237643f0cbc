"""What the registry publishes to each reader: records, withdrawals and whole directories, with real agents and real feeds."""

import json

import pytest

from warren_contracts import subjects
from warren_contracts.commands import Empty, PeerChange
from warren_contracts.documents import DirectoryPage, DirectoryPageRequest, ReaderDigest, Whoami
from warren_contracts.peers import PeerSummary
from warren_contracts.problems import ConflictError, InvalidInputError
from warren_service.call_gate import LimitExceededError
from warren_testkit.registry.stack import HUB_SPOKE, LIMIT, Agent, Stack, until
from warren_trust.signing import from_document


async def test_records_reach_exactly_the_related_readers(stack: Stack) -> None:
    await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    spoke = await stack.agent("spoke-1", "branch", subnets=["10.1.0.0/16"])
    assert spoke.connection is not None
    digests = await spoke.connection.client.subscribe(subjects.live(subjects.digest("tag=branch")))
    live = await spoke.connection.client.subscribe(subjects.live("warren.v1.directory.tag=branch.*"))
    await spoke.connection.client.flush()

    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    hub = await until(lambda: stack.stored("tag=branch", "hub-1"), what="the hub's record for branches")
    assert [str(network) for network in hub.subnets] == ["10.0.0.0/16"]
    await until(lambda: stack.stored("tag=hub", "spoke-1"), what="the spoke's record for hubs")
    message = await live.next_msg(timeout=LIMIT)
    while message.subject != "$JS.ACK.live.warren.v1.directory.tag=branch.hub-1":
        message = await live.next_msg(timeout=LIMIT)
    js = stack.reader.client.jetstream()
    info = await js.stream_info("DIRECTORY", subjects_filter="warren.v1.directory.tag=hub.*")
    assert set(info.state.subjects or {}) == {"warren.v1.directory.tag=hub.spoke-1"}

    page = await spoke.ask("directory", DirectoryPageRequest(reader="tag=branch"), DirectoryPage)
    records = {json.loads(document.payload)["peer"]: document for document in page.records}
    assert "hub-1" in records
    stack.verifier().verify(from_document(records["hub-1"]))

    async def digest_is_right() -> bool:
        found = ReaderDigest.model_validate_json((await digests.next_msg(timeout=LIMIT)).data)
        return found.directory_count == len(page.records) and found.policy_revision == 1

    await until(digest_is_right, what="a digest that says so")
    me = await spoke.ask("whoami", Empty(), Whoami)
    assert {digest.reader for digest in me.digests} == {"all", "peer=spoke-1", "tag=branch"}

    await stack.publish_policies(("tag=hub", "tag=branch"))  # nothing is related any more

    async def withdrawn() -> bool:
        record = await stack.stored("tag=branch", "hub-1")
        return record is not None and record.withdrawn

    await until(withdrawn, what="the withdrawal")
    page = await spoke.ask("directory", DirectoryPageRequest(reader="tag=branch"), DirectoryPage)
    assert "hub-1" not in {json.loads(document.payload)["peer"] for document in page.records}


async def test_an_overlap_is_a_conflict_that_names_the_other_peer(stack: Stack) -> None:
    await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    spoke = await stack.agent("spoke-1", "branch")
    reply = await spoke.announce(subnets=["10.0.9.0/24", "10.7.0.0/24"])
    (refused,) = reply.refused
    assert refused.field == "subnets/0"
    assert "10.0.9.0/24 overlaps 10.0.0.0/16 of the peer hub-1" in refused.message
    with pytest.raises(InvalidInputError, match="default route"):
        await spoke.announce(subnets=["0.0.0.0/0"])
    with pytest.raises(ConflictError, match="belongs to the peer hub-1"):
        await spoke.announce(identity="hub-1")


async def test_a_real_feed_holds_what_the_registry_says(stack: Stack) -> None:
    hub, spoke = Agent(stack, "hub-1"), Agent(stack, "spoke-1")
    answers = {
        agent.name: await agent.enrol(await stack.join_token(tag)) for agent, tag in ((hub, "hub"), (spoke, "branch"))
    }
    feeds = {}
    for agent, subnet in ((hub, "10.0.0.0/16"), (spoke, "10.1.0.0/16")):
        await agent.connect()
        await agent.announce(subnets=[subnet])
        feeds[agent.name] = await agent.feed(answers[agent.name])
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)

    def known(name: str) -> dict[str, str]:
        state = feeds[name].state
        return {peer: str(record.subnets[0]) for peer, record in state.directory.items()} if state else {}

    async def both_know() -> bool:
        everybody = {"hub-1": "10.0.0.0/16", "spoke-1": "10.1.0.0/16"}
        return known("hub-1") == known("spoke-1") == everybody

    await until(both_know, what="both ends' knowledge of each other")
    await spoke.announce(subnets=["10.7.0.0/16"])

    async def hub_knows() -> bool:
        return known("hub-1").get("spoke-1") == "10.7.0.0/16"

    await until(hub_knows, what="the new network at the hub")
    await stack.ask("retag", PeerChange(peer="spoke-1", tags=("other",)), PeerSummary)

    async def apart() -> bool:
        return set(known("hub-1")) == {"hub-1"} and set(known("spoke-1")) == {"spoke-1"}

    await until(apart, what="that neither sees the other any more")
    for feed in feeds.values():
        refusals = {name for name, count in feed.machine.counters.items() if count and name.startswith("refused")}
        assert refusals <= {"refused-older-revision"}  # a record of a page arrives again, live


async def test_a_hostile_peer_does_not_keep_a_fresh_feed_from_completing(stack: Stack) -> None:
    hub, token = Agent(stack, "hub-1"), await stack.join_token("branch", uses=70)
    answer = await hub.enrol(await stack.join_token("hub"))
    await hub.connect()
    await hub.announce(subnets=["10.0.0.0/16"])
    words = tuple(f"{number:064}" for number in range(230))
    names = {f"spoke-{number:02}" for number in range(70)}
    for number, name in enumerate(sorted(names)):
        spoke = Agent(stack, name)
        await spoke.enrol(token)
        await spoke.connect()
        if not number:
            with pytest.raises(LimitExceededError, match="bytes are more than the 16384"):
                await spoke.announce(drivers=[{"kind": '"' * 258_000}])
        await spoke.announce(subnets=[f"10.1.{number}.0/24"], drivers=[{"ike": words}])  # 70 times 16 kB: two pages
        await spoke.leave()
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)

    async def all_received() -> bool:
        found = await hub.ask("directory", DirectoryPageRequest(reader="tag=hub", after="spoke-68"), DirectoryPage)
        return len(found.records) == 1

    await until(all_received, what="the last record")
    feed = await hub.feed(answer)

    async def complete() -> bool:
        return feed.state is not None and set(feed.state.directory) == names | {"hub-1"}

    await until(complete, what="a whole directory next to the hostile peer")
    assert not feed.machine.counters["refused-too-large"]
