"""The feed on a real server that is stopped, restarted and killed meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from warren_bus.client_subjects import inbox, policy_get
from warren_bus.connection import Connection
from warren_bus.feed import Feed, FeedState, FeedTimes
from warren_contracts import subjects
from warren_service.streams import POLICY
from warren_testkit.bus import Fleet, GrantingCallout, RealServer
from warren_testkit.bus.live import LiveFleet
from warren_testkit.bus.streams import declare_streams
from warren_testkit.waiting import eventually

QUICK = FeedTimes(reconnect_jitter=0.05, resync_jitter=0.1, resync_interval=0.2, retry_first=0.1, retry_limit=1.0)


class Stage:
    """A server, a signing fleet and agents with feeds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = AsyncExitStack()
        self.fleet = Fleet(page_size=2)

    async def __aenter__(self) -> "Stage":
        self.server = await self.stack.enter_async_context(RealServer(self.folder))
        self.callout = await self.stack.enter_async_context(GrantingCallout(self.server))
        self.live = await self.stack.enter_async_context(LiveFleet(self.server, self.fleet))
        return self

    async def feed(self, peer: str, *tags: str, saved: FeedState | None = None) -> Feed:
        """A new agent that follows, and every state that it saw in `seen`."""
        self.fleet.enrol(peer, *tags)
        settings, nkey = self.server.new_agent(peer)
        self.nkey = nkey
        self.callout.enrol(nkey, peer, tags)
        self.connection = Connection(settings, name=peer, inbox_prefix=inbox(peer), rng=Random(2))
        await self.stack.enter_async_context(self.connection)
        feed = Feed(
            self.connection, self.fleet.identity(peer), self.fleet.trust, saved=saved, times=QUICK, rng=Random(3)
        )
        await self.stack.enter_async_context(feed)
        self.seen: list[FeedState] = []
        watching = asyncio.create_task(self._watch(feed, self.seen))

        async def stop() -> None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

        self.stack.push_async_callback(stop)
        return feed

    @staticmethod
    async def _watch(feed: Feed, seen: list[FeedState]) -> None:
        async for state in feed:
            seen.append(state)

    async def shows(self, *policies: str, limit: float = 60.0) -> None:
        """Wait until the newest state has exactly these policies."""
        await eventually(
            lambda: bool(self.seen) and names(self.seen[-1]) == list(policies), limit, f"policies {policies}"
        )


def names(state: FeedState) -> list[str]:
    return [item.policy.id for item in state.published]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    try:
        yield await stage.__aenter__()
    finally:
        await stage.stack.aclose()


async def test_snapshot_then_live(stage: Stage) -> None:
    await stage.live.publish_batch(stage.fleet.assign({"tag=hub": ("p1",), "all": ("p2",)}))
    for number in range(5):
        await stage.live.publish(stage.fleet.put_record("tag=hub", f"n{number}"))
    feed = await stage.feed("gw1", "hub")
    await stage.shows("p1", "p2")
    assert set(stage.seen[-1].directory) == {f"n{number}" for number in range(5)}
    await stage.live.publish(*stage.fleet.assign({"peer=gw1": ("p3",)}), stage.fleet.put_record("all", "n9"))
    await stage.shows("p1", "p2", "p3")
    await eventually(lambda: "n9" in stage.seen[-1].directory)
    assert not [name for name in feed.counters if name.startswith("refused")]
    assert not feed.counters["gap"]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_server_ends_and_returns(stage: Stage, how: str) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",)}))
    feed = await stage.feed("gw1", "hub")
    await stage.shows("p1")
    await (stage.server.kill() if how == "kill" else stage.server.stop())
    await eventually(lambda: not stage.connection.is_connected, what="the loss of the server to be noticed")
    change = stage.fleet.assign({"tag=hub": ("p1", "p2")})
    publishing = asyncio.create_task(stage.live.publish(*change))
    await stage.server.start()
    await publishing
    await stage.shows("p1", "p2")
    await eventually(lambda: feed.machine.synchronised)
    assert all("p1" in names(state) for state in stage.seen)


async def test_missed_while_away_is_there_after_the_reconnect(stage: Stage) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",)}), stage.fleet.put_record("tag=hub", "n1"))
    await stage.feed("gw1", "hub")
    await stage.shows("p1")
    await stage.server.kill()
    await eventually(lambda: not stage.connection.is_connected)
    hold = asyncio.Event()
    stage.callout.delay = hold.wait  # the agent comes back only after everything was published
    await stage.server.start()
    await stage.live.publish(
        *stage.fleet.assign({"tag=hub": ("p2",)}), stage.fleet.put_record("tag=hub", "n1", withdrawn=True)
    )
    hold.set()
    await stage.shows("p2")
    await eventually(lambda: not stage.seen[-1].directory, what="the withdrawn record to go")


async def test_policy_that_moves_between_two_tags_is_in_every_state(stage: Stage) -> None:
    await stage.live.publish_batch(stage.fleet.assign({"tag=hub": ("m",), "tag=west": ()}))
    await stage.feed("gw1", "hub", "west")
    await stage.shows("m")
    for number in range(20):
        here, there = ("tag=hub", "tag=west") if number % 2 == 0 else ("tag=west", "tag=hub")
        await stage.live.publish_batch(stage.fleet.assign({here: (), there: ("m",)}))
    await eventually(lambda: stage.seen[-1].policy_revision == stage.fleet.revision)
    assert all(names(state) == ["m"] for state in stage.seen)


async def test_lost_message_is_healed_by_the_next_digest(stage: Stage) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",)}))
    feed = await stage.feed("gw1", "hub")
    await stage.shows("p1")
    lost = feed._subscriptions.pop(subjects.live(subjects.policy("tag=hub")))
    await lost.unsubscribe()
    await stage.connection.client.flush()
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p2",)}))
    await stage.live.publish(stage.fleet.signed_digest("tag=hub"))
    await stage.shows("p2")
    assert feed.counters["digest-differs"] == 1


async def test_a_reply_subject_reaches_no_live_subject(stage: Stage) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",), "tag=spoke": ("evil",), "all": ()}))
    feed = await stage.feed("gw1", "hub")
    await stage.shows("p1")
    attacker_settings, nkey = stage.server.new_agent("bad")
    stage.callout.enrol(nkey, "bad", ("spoke",))
    async with Connection(attacker_settings, name="bad", inbox_prefix=inbox("bad")) as attacker:
        client = await attacker.wait_connected()
        refused: list[str] = []
        attacker.on_error(lambda error: refused.append(str(error)))
        live = subjects.live(subjects.policy("tag=hub"))
        await client.publish(policy_get("tag=spoke"), b"", reply=live)
        await client.publish(subjects.telemetry("bad", "report"), b"{}", reply=live)
        await client.publish(policy_get("all"), b"", reply=subjects.live(subjects.policy("all")))
        await eventually(lambda: len(refused) == 3, what="three refusals by the server")
    assert names(stage.seen[-1]) == ["p1"]
    assert not [name for name in feed.counters if name.startswith("refused")]
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1", "p2")}))
    await stage.shows("p1", "p2")


async def test_stream_that_was_made_again_locks_nobody_out(stage: Stage) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",)}), *stage.fleet.assign({"tag=hub": ("p2",)}))
    await stage.feed("gw1", "hub")
    await stage.shows("p2")
    await stage.server.stop()
    store = stage.folder / "store" / "jetstream" / "CTRL" / "streams" / "POLICY"
    assert store.is_dir()
    store.rename(stage.folder / "old-policy")
    await stage.server.start()
    await stage.live.connections["policy"].wait_connected()
    await declare_streams(stage.server, POLICY)
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p3",)}))
    await stage.shows("p3")


async def test_retagged_peer_that_is_kicked_reads_its_new_tags_alone(stage: Stage) -> None:
    await stage.live.publish_batch(stage.fleet.assign({"tag=hub": ("p1",), "tag=east": ("p2",)}))
    feed = await stage.feed("gw1", "hub")
    await stage.shows("p1")
    stage.fleet.enrol("gw1", "east")
    stage.callout.enrol(stage.nkey, "gw1", ("east",))
    registry = stage.live.client("registry")
    body = b'{"acc":"AGENTS","user":"gw1","auth":true}'
    found = json.loads((await registry.request("$SYS.REQ.SERVER.PING.CONNZ", body, timeout=60)).data)
    (connection,) = found["data"]["connections"]
    await registry.request(
        f"$SYS.REQ.SERVER.{found['server']['id']}.KICK", json.dumps({"cid": connection["cid"]}).encode(), timeout=60
    )
    await stage.shows("p2")
    await eventually(lambda: subjects.live(subjects.policy("tag=hub")) not in feed._subscriptions)
    assert stage.seen[-1].tags == ("east",)


async def test_registry_that_is_unavailable_stops_no_policy(stage: Stage) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",)}))
    await stage.feed("gw1", "hub")
    await stage.shows("p1")
    await stage.live.connections["registry"].__aexit__(None, None, None)
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1", "p2")}))
    await stage.shows("p1", "p2")


async def test_saved_state_is_continued_from(stage: Stage, tmp_path: Path) -> None:
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p1",)}))
    await stage.feed("gw1", "hub")
    await stage.shows("p1")
    saved = FeedState.model_validate_json(stage.seen[-1].model_dump_json())
    await stage.live.publish(*stage.fleet.assign({"tag=hub": ("p2",)}))
    feed = await stage.feed("gw1", "hub", saved=saved)
    assert feed.state == saved
    await stage.shows("p2")
