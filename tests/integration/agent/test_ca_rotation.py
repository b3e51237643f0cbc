"""`warren ca rotate` on a running control plane with two gateways: no tunnel, feed or call is lost, and the former CA is refused."""

import asyncio
import json
import shutil
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from warren_agent.state.store import StateStore
from warren_bus.tls import ClientTls, read_authorities
from warren_contracts.peers import JoinTokenRequest
from warren_contracts.policy import Policy
from warren_lab.ping import Ping
from warren_lab.runtime import make_runtime_folder
from warren_stack.demo.api import Api
from warren_stack.folders import DataFolder
from warren_stack.stack import Stack, StackOptions
from warren_stack.tls.commands import app
from warren_stack.tls.folder import TlsFolder
from warren_stack.tls.rotation import FOLLOW, CaRotation
from warren_testkit.agent.process import AgentProcess
from warren_testkit.intent import STAR
from warren_testkit.waiting import eventually
from warren_trust.certificates import issue, read_authority

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.promises, pytest.mark.timeout(300)]

LIMIT_S = 120.0


@pytest.fixture
def folder() -> Iterator[Path]:
    made = make_runtime_folder("warren-test-")
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def warren_ca(data: Path, *words: str) -> dict[str, Any]:
    """The command, in a thread of its own; what it prints as JSON."""
    done = await asyncio.to_thread(lambda: CliRunner().invoke(app, [*words, "--data", str(data), "--json"]))
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


async def spis(gateway: Any) -> list[tuple[str, str]]:
    return [(child.spi_in, child.spi_out) for sa in await gateway.ike_sas() for child in sa.children]


async def refused(agent: AgentProcess, chain: bytes, key: bytes) -> str:
    """Why this agent's trust refuses a server with a certificate; empty: it accepts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, text in (("chain", chain), ("key", key)):
        (agent.folder / name).write_bytes(text)
    server.load_cert_chain(agent.folder / "chain", agent.folder / "key")

    async def served(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(served, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=ClientTls(agent.state / "ca.pem").context(), server_hostname="127.0.0.1"
            )
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        writer.close()
    return ""


async def test_the_ca_is_replaced_under_tunnels_and_feeds_that_stay(folder: Path, both: tuple[Any, Any]) -> None:
    hub, spoke = both
    agents: list[AgentProcess] = []
    options = StackOptions(folder / "data", http_port=0, nats_port=0, metrics_port=0)
    tls = TlsFolder(DataFolder(folder / "data").tls)
    try:
        async with Stack(options) as stack:
            fleet = _Fleet(stack, folder, agents)
            await fleet.join(hub, "hub")
            await fleet.join(spoke, "branch")
            await fleet.takes("before")
            await asyncio.gather(hub.has(1), spoke.has(1))
            before = await asyncio.gather(spis(hub), spis(spoke))
            former = read_authority(tls.ca_certificate.read_bytes(), tls.ca_key.read_bytes())
            ping = Ping(spoke.namespace, IPv4Address(spoke.protected), IPv4Address(hub.protected))
            ping.start()
            try:
                begun = await warren_ca(folder / "data", "rotate", "--yes")
                assert (begun["phase"], begun["kept"], len(begun["authorities"])) == ("announced", True, 2)
                await fleet.pin(2)
                await fleet.takes("while both are trusted")
                _as_if_begun(tls, FOLLOW)  # the agents have followed: the time for those that had not is not waited for
                await warren_ca(folder / "data", "rotate", "--finish", "--yes")
                await eventually(lambda: CaRotation(tls).status().phase == "steady", LIMIT_S, "the end of the rotation")
                await fleet.pin(1)
                await fleet.takes("by the new CA")
            finally:
                counts = await asyncio.to_thread(ping.stop)
            shown = await warren_ca(folder / "data", "show")
            assert {it["ca_sha256"] for it in shown["listeners"]} == {shown["authorities"][0]["sha256"]}
            assert await asyncio.gather(spis(hub), spis(spoke)) == before
            assert (counts.sent > 0, counts.lost) == (True, 0)
            now = datetime.now(UTC)
            current = read_authority(tls.ca_certificate.read_bytes(), tls.ca_key.read_bytes())
            for agent in agents:
                old = issue(former, "old", ["127.0.0.1"], now)
                assert (
                    await refused(agent, old.chain_pem, old.key_pem) == "self-signed certificate in certificate chain"
                )
                new = issue(current, "new", ["127.0.0.1"], now)
                assert await refused(agent, new.chain_pem, new.key_pem) == ""
            await fleet.enrol("later")  # a new join token names the new CA
    finally:
        for agent in agents:
            await agent.stop()


class _Fleet:
    """Agents of a running control plane."""

    def __init__(self, stack: Stack, folder: Path, agents: list[AgentProcess]) -> None:
        self._stack, self._folder, self._agents = stack, folder, agents

    def _api(self) -> Api:
        """A client that trusts what is trusted now."""
        return Api(self._stack.info.url, self._stack.info.token_file)

    async def enrol(self, peer: str, tag: str = "branch", **settings: str) -> AgentProcess:
        async with self._api() as api:
            token = await api.join_token(JoinTokenRequest(tags=(tag,), peer=peer))
        environment = {"WARREN_NATS_URL": self._stack.info.nats_url, "WARREN_PEER": peer, **settings}
        agent = AgentProcess(self._folder / peer, environment, token.token)
        await agent.enrol()
        return agent

    async def join(self, gateway: Any, tag: str) -> None:
        agent = await self.enrol(
            gateway.name, tag, WARREN_VICI_SOCKET=str(gateway.vici), WARREN_ENFY_SOCKET=str(gateway.charon.enfy_path),
            WARREN_ENDPOINTS=gateway.address, WARREN_SUBNETS=f"{gateway.protected[:-1]}0/24",
        )  # fmt: skip
        self._agents.append(agent)
        await agent.start()

    async def takes(self, description: str) -> None:
        """A change reaches every agent."""
        async with self._api() as api:
            revision = (await api.apply(Policy.model_validate(STAR | {"description": description}))).revision
        for agent in self._agents:
            await eventually(partial(_holds, agent, revision), LIMIT_S, f"revision {revision} at {agent.folder.name}")

    async def pin(self, count: int) -> None:
        """Every agent trusts so many CAs."""
        for agent in self._agents:
            await eventually(partial(_pins, agent, count), LIMIT_S, f"{count} CAs at {agent.folder.name}")


def _holds(agent: AgentProcess, revision: int) -> bool:
    state = StateStore(agent.state).intent()
    return state is not None and state.policy_revision == revision


def _pins(agent: AgentProcess, count: int) -> bool:
    return len(read_authorities(agent.state / "ca.pem")) == count


def _as_if_begun(tls: TlsFolder, ago: timedelta) -> None:
    file = tls.path / "rotation.json"
    times = json.loads(file.read_text())
    times["began_at"] = (datetime.now(UTC) - ago).isoformat()
    file.write_text(json.dumps(times))
