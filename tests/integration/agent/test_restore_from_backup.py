"""A backup, more changes, a restore: the whole product with two charons, from the word of health to agents that follow."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from warren_agent.state.store import StateStore
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.feed.state import FeedState
from warren_bus.settings import BusSettings
from warren_cli.errors import CliError
from warren_contracts import subjects
from warren_contracts.commands import Health
from warren_contracts.peers import JoinTokenRequest
from warren_contracts.policy import Policy
from warren_lab.errors import LabError
from warren_lab.runtime import make_runtime_folder
from warren_stack.demo.api import Api
from warren_stack.stack import Stack, StackOptions
from warren_testkit.agent.process import AgentProcess
from warren_testkit.intent import STAR
from warren_testkit.waiting import eventually
from warren_trust.errors import WrongEpochError
from warren_trust.signing import Verifier, parse_signed

pytestmark = pytest.mark.timeout(900)

WARREN = Path(sys.executable).with_name("warren")
PARTNER = {
    "identity": "partner",
    "public_key": "A" * 43 + "=",
    "addresses": ["192.0.2.99"],
    "subnets": ["10.99.0.0/24"],
}
EPOCH_OF_STREAMS = {"registry", "registry/epoch", "policy", "policy/epoch"}
LATER = {"id": "later", "tunnels": [{"name": "later", "ends": [{"peer": "hub"}, PARTNER]}]}


until = partial(eventually, limit_s=180.0, ignoring=(CliError, LabError, httpx.HTTPError), pause_s=0.1)


@dataclass
class Site:
    """What runs: `warren up`, and what an operator has of it."""

    stack: Stack
    api: Api

    async def health(self) -> tuple[int, Health]:
        reply = await self.api._client.get("/api/health")
        return reply.status_code, Health.model_validate_json(reply.content)

    async def is_ready(self) -> bool:
        return (await self.health())[0] == httpx.codes.OK

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command `warren`, as an operator types it."""
        environment = {
            **os.environ,
            "WARREN_URL": self.stack.info.url,
            "WARREN_TOKEN_FILE": str(self.stack.info.token_file),
        }
        argv = [str(WARREN), *words]
        return await asyncio.to_thread(
            lambda: subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
        )


class Fleet:
    """A data folder with ports that stay, and agents that reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.ports: dict[str, Any] = {}

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Site]:
        ports = self.ports or {"http_port": 0, "nats_port": 0, "metrics_port": 0}
        async with Stack(StackOptions(self.data, **ports)) as stack:
            info = stack.info
            urls = {"http_port": info.url, "nats_port": info.nats_url, "metrics_port": info.metrics_url}
            self.ports = {name: httpx.URL(url).port or 0 for name, url in urls.items()}
            async with Api(info.url, info.token_file) as api:
                yield Site(stack, api)

    async def agent(self, site: Site, peer: str, tag: str, **more: str) -> AgentProcess:
        """A peer that has joined, and whose agent runs."""
        token = await site.api.join_token(JoinTokenRequest(tags=(tag,), peer=peer))
        (self.folder / peer).mkdir(exist_ok=True)
        (self.folder / peer / "agent" / "identity.json").unlink(missing_ok=True)  # it joins again by its old key
        environment = {
            "PATH": os.environ["PATH"], "WARREN_NATS_URL": site.stack.info.nats_url, "WARREN_PEER": peer, **more,
        }  # fmt: skip
        agent = AgentProcess(self.folder / peer, environment, token.token)
        await until(lambda: _enrolled(agent), what=f"{peer} joins")
        await agent.start()
        return agent

    def held(self, peer: str) -> FeedState | None:
        """What the agent keeps on disk."""
        return StateStore(self.folder / peer / "agent").intent()

    async def holds(self, peer: str, wanted: Callable[[FeedState], bool], what: str) -> FeedState:
        async def looks() -> FeedState | None:
            state = self.held(peer)
            return state if state is not None and wanted(state) else None

        state: FeedState = await until(looks, what=f"{peer}: {what}")
        return state


@pytest.fixture
def fleet() -> Any:
    folder = make_runtime_folder("warren-test-")
    yield Fleet(folder)
    shutil.rmtree(folder, ignore_errors=True)


async def apply(site: Site, policy: dict[str, Any], **more: Any) -> int:
    return (await site.api.apply(Policy.model_validate(policy | more))).revision


def names(state: FeedState) -> list[str]:
    return [published.policy.id for published in state.published]


def all_of_epoch_2(state: FeedState) -> bool:
    """Whether an agent has changed over, and holds what the backup knows and nothing else."""
    epochs = {state.trust.epoch, *(held.epoch for held in state.policies.values())}
    return epochs == {2} and names(state) == ["star"] and set(state.directory) == {"hub", "spoke"}


async def spis(gateway: Any) -> list[tuple[str, str]]:
    return [(child.spi_in, child.spi_out) for sa in await gateway.ike_sas() for child in sa.children]


@pytest.mark.root
@pytest.mark.interop
async def test_a_restored_fleet_goes_on_in_a_new_epoch_and_its_tunnel_is_untouched(
    fleet: Fleet, both: tuple[Any, Any]
) -> None:
    hub_side, spoke_side = both
    agents: dict[str, AgentProcess] = {}
    try:
        async with fleet.up() as site:  # the fleet as it is in the backup
            for gateway, tag in ((hub_side, "hub"), (spoke_side, "branch")):
                agents[gateway.name] = await fleet.agent(
                    site, gateway.name, tag, WARREN_VICI_SOCKET=str(gateway.vici),
                    WARREN_ENFY_SOCKET=str(gateway.charon.enfy_path), WARREN_ENDPOINTS=gateway.address,
                    WARREN_SUBNETS=f"{gateway.protected[:-1]}0/24",
                )  # fmt: skip
            await until(lambda: _announced(site, 2), what="both peers are known")
            await apply(site, STAR)
            await asyncio.gather(hub_side.has(1), spoke_side.has(1))
            before = await asyncio.gather(spis(hub_side), spis(spoke_side))
        copied(fleet.data / "postgres", fleet.folder / "backup")

        async with fleet.up() as site:  # what the backup knows nothing of
            no_charon = str(fleet.folder / "none")
            agents["late"] = await fleet.agent(site, "late", "branch", WARREN_VICI_SOCKET=no_charon)
            for text in ("first", "second", "third"):
                await apply(site, STAR, description=text)
            later = await apply(site, LATER)
            await fleet.holds("hub", lambda it: names(it) == ["later", "star"] and "late" in it.directory, "later")
            await fleet.holds("spoke", lambda it: it.policy_revision == later - 1, "the last change before")
            old = await _stored_set(site, "peer=hub")
            await agents["spoke"].stop()  # away until all is over; its tunnel stays
        shutil.rmtree(fleet.data / "postgres")
        copied(fleet.folder / "backup", fleet.data / "postgres")

        async with fleet.up() as site:
            assert site.stack.info.restored
            await until(partial(_lacks, site, EPOCH_OF_STREAMS), what="health without the epoch")
            status, health = await site.health()
            assert status == httpx.codes.SERVICE_UNAVAILABLE
            for service, stream in (("registry", "DIRECTORY"), ("policy", "POLICY")):
                said = health.detail[f"{service}/epoch"]
                assert said.startswith(f"{stream} holds epoch 1, revision ")
                assert said.endswith("announce a new epoch: warren epoch advance")
            with pytest.raises(CliError, match=r"503.*warren epoch advance"):
                await apply(site, STAR, description="not now")
            # Nothing was published that it would take for a change.
            await fleet.holds("hub", lambda it: names(it) == ["later", "star"], "its last state")

            answer = await site.command("epoch", "advance", "--json")
            assert (answer.returncode, json.loads(answer.stdout)["epoch"]) == (0, 2), answer.stderr
            await until(site.is_ready, what="health after the new epoch")
            at_hub = await fleet.holds("hub", all_of_epoch_2, "epoch 2, in the end without what only the streams knew")
            assert at_hub.policies["peer=hub"].policies == ()  # the backup knows no such reader

            await agents["spoke"].start()  # with documents of the old epoch on its disk
            await fleet.holds("spoke", lambda it: it.trust.epoch == 2 and names(it) == ["star"], "epoch 2")

            await agents.pop("late").stop()
            agents["late"] = await fleet.agent(site, "late", "branch", WARREN_VICI_SOCKET=no_charon)
            await fleet.holds("late", lambda it: it.trust.epoch == 2 and names(it) == ["star"], "epoch 2")
            await fleet.holds("hub", lambda it: "late" in it.directory, "the peer that enrolled again")

            await _replay(site, "peer=hub", old)
            replayed = parse_signed(subjects.policy("peer=hub"), old.headers, old.payload)
            with pytest.raises(WrongEpochError):
                Verifier(at_hub.trust).verify(replayed)
            revision = await apply(site, STAR, description="after all of it")
            for peer in ("hub", "spoke"):
                state = await fleet.holds(peer, lambda it: it.policy_revision == revision, "the next change")
                assert (names(state), state.published[0].policy.description) == (["star"], "after all of it")
            await until(site.is_ready, what="health at the end")
            answer = await until(partial(_epoch_event, site), what="the event of the epoch")
            assert json.loads(answer.stdout)["data"] | {"at": ""} == {
                "epoch": 2,
                "before": 1,
                "actor": "admin",
                "at": "",
            }
        assert await asyncio.gather(spis(hub_side), spis(spoke_side)) == before
        assert await spoke_side.ping(hub_side.protected)
    finally:
        for agent in agents.values():
            await agent.stop()


async def test_a_machine_that_was_restored_as_a_whole_is_followed_after_a_new_epoch(fleet: Fleet) -> None:
    """Streams and database agree with each other, and both are older than what agents hold: only an operator knows."""
    kept = ("postgres", "nats")
    agents: list[AgentProcess] = []
    mesh = {"id": "mesh", "topology": {"kind": "mesh", "members": ["tag=hub"]}}
    try:
        async with fleet.up() as site:
            agents.append(await fleet.agent(site, "hub", "hub", WARREN_VICI_SOCKET=str(fleet.folder / "none")))
            await apply(site, mesh)
            await fleet.holds("hub", lambda it: names(it) == ["mesh"], "the policy of the backup")
        for folder in kept:
            copied(fleet.data / folder, fleet.folder / folder)
        async with fleet.up() as site:
            await apply(site, LATER)
            await fleet.holds("hub", lambda it: names(it) == ["later", "mesh"], "what the backup knows nothing of")
        for folder in kept:
            shutil.rmtree(fleet.data / folder)
            copied(fleet.folder / folder, fleet.data / folder)
        async with fleet.up() as site:
            await until(site.is_ready, what="health of the restored machine")
            await fleet.holds("hub", lambda it: names(it) == ["later", "mesh"], "its last state")
            answer = await site.command("epoch", "advance", "--to", "3")
            assert answer.stdout.startswith("Epoch 3 is announced (before: 1)."), answer.stderr
            state = await fleet.holds("hub", lambda it: names(it) == ["mesh"], "a set that nobody knows of any more")
            assert (state.trust.epoch, set(state.directory)) == (3, {"hub"})
    finally:
        for agent in agents:
            await agent.stop()


async def _lacks(site: Site, names: set[str]) -> bool:
    """Whether health says that exactly these are unavailable; a part that has just started is, too."""
    return {name for name, up in (await site.health())[1].dependencies.items() if not up} == names


async def _epoch_event(site: Site) -> subprocess.CompletedProcess[str] | None:
    answer = await site.command("events", "--kind", "epoch", "--json")
    return answer if answer.stdout else None


async def _enrolled(agent: AgentProcess) -> bool:
    """Whether it has joined; a callout that is hard pressed refuses, and is asked again."""
    return await agent.run_to_end("enrol") == 0


async def _announced(site: Site, count: int) -> bool:
    return len([peer for peer in await site.api.peers() if peer.record.keys]) == count


def copied(source: Path, target: Path) -> None:
    """A folder with its owners: under root PostgreSQL runs as another user, and reads its own files alone."""
    shutil.copytree(source, target)
    for path in (source, *source.rglob("*")):
        owner = path.stat()
        os.chown(target / path.relative_to(source), owner.st_uid, owner.st_gid)


@asynccontextmanager
async def _as_policy(site: Site) -> AsyncIterator[Connection]:
    """A connection with the policy service's own key."""
    stack = site.stack
    settings = BusSettings((stack.info.nats_url,), stack.data.keys / "policy.seed", ca_file=stack.info.ca_file)
    async with Connection(settings, name="test", inbox_prefix=inbox("policy")) as connection:
        await connection.wait_connected()
        yield connection


class Stored(NamedTuple):
    """A signed document as the stream holds it."""

    headers: dict[str, str]
    payload: bytes


async def _stored_set(site: Site, reader: str) -> Stored:
    async with _as_policy(site) as connection:
        message = await connection.client.jetstream().get_last_msg("POLICY", subjects.policy(reader), direct=True)
    return Stored(dict(message.headers or {}), message.data or b"")


async def _replay(site: Site, reader: str, old: Stored) -> None:
    """An old document once more, genuine in every way, by somebody who has the key of a service of the bus."""
    signed = {name: value for name, value in old.headers.items() if name.startswith(("Warren-", "ce-"))}
    async with _as_policy(site) as connection:
        await connection.client.jetstream().publish(subjects.policy(reader), old.payload, headers=signed)
