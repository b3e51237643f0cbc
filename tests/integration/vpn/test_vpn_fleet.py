"""A VPN server that is enrolled in a fleet: its sessions on a real bus, and as the fleet's tunnels."""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest

from warren_contracts import subjects
from warren_contracts.commands import ListTunnels
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import Presence
from warren_ikev2.addresses import Path as NetworkPath
from warren_ikev2.addresses import SocketAddress
from warren_ikev2.events import IkeSaEstablished, NatSituation, NetworkAttributes, SessionId, SessionRole
from warren_ikev2.identity import Identity
from warren_ikev2.suites import ike_suite
from warren_lab.namespace import in_netns
from warren_lab.process import wait_until
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.parse import MessageSource, parse
from warren_metrics.domain.views import list_tunnels
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.accounts import Bus
from warren_testkit.ikev2.proposals import parse_ike_proposal
from warren_testkit.lab.vpn_bed import INSIDE, VpnBed, make_vpn_bed
from warren_testkit.up import WARREN, Up, running_up, stack_folder
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair, write_seed
from warren_vpn.server.accounts import Account, Traffic
from warren_vpn.server.errors import ServerSettingError
from warren_vpn.server.fleet import FleetIdentity, FleetReporter, tunnel_name

PATH = NetworkPath(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("198.51.100.7"), 4500))
SPI = bytes.fromhex("a1b2c3d4e5f60718")


def account(user: str) -> Account:
    suite = ike_suite(parse_ike_proposal("aes256gcm16-prfsha384-x25519"))
    info = IkeSaEstablished(
        SessionId(1), "password", SessionRole.RESPONDER, bytes(8), SPI, suite, Identity.parse("vpn"),
        Identity.parse("192.168.1.7"), PATH, NatSituation(), "pubkey", "eap-gtc", user,
        NetworkAttributes((ip_address("10.66.0.9"),)),
    )  # fmt: skip
    return Account(SessionId(1), user, info, datetime.now(UTC), ended=Traffic(700, 7, 800, 8))


def enrolled(server: RealServer, callout: GrantingCallout, folder: Path, peer: str) -> Path:
    """A state folder as `warren-agent enrol` makes it."""
    settings, nkey = server.new_agent(peer)
    callout.enrol(nkey, peer, ())
    folder.mkdir()
    settings.nkey_file.rename(folder / "nkey.seed")
    if settings.ca_file is not None:
        (folder / "ca.pem").write_bytes(settings.ca_file.read_bytes())
    identity = FleetIdentity(peer=peer, servers=settings.servers)
    (folder / "identity.json").write_text(identity.model_dump_json())
    return folder


async def test_sessions_are_tunnels_of_the_fleet(bus: Bus, tmp_path: Path) -> None:
    folder = enrolled(bus.server, bus.callout, tmp_path / "fleet", "vpn1")
    alice = account("Alice.Smith")
    name = "vpn-alice-smith-a1b2c3d4"
    connected = [(alice, 0.5)]
    reporter = FleetReporter(folder, lambda: connected)
    fleet = FleetTelemetry()
    js = bus.live.client("metrics").jetstream()
    pull = await js.pull_subscribe("warren.v1.telemetry.>", durable="metrics", stream="TELEMETRY")

    async def take() -> None:
        with contextlib.suppress(TimeoutError):
            for message in await pull.fetch(10, timeout=0.5):
                meta = message.metadata
                place = MessageSource(meta.sequence.stream, meta.timestamp)
                fleet.observe(parse(message.subject, message.data, place))
                await message.ack()

    async def listed(count: int) -> bool:
        await take()
        return len(list_tunnels(fleet, ListTunnels(), datetime.now(UTC)).tunnels) == count

    running = asyncio.create_task(reporter.run())
    try:
        await eventually(lambda: listed(1))
        (tunnel,) = list_tunnels(fleet, ListTunnels(), datetime.now(UTC)).tunnels
        end = tunnel.ends["vpn1"]
        assert (tunnel.name, end.state, end.policy) == (name, TunnelState.UP, None)
        assert (end.traffic.bytes_in, end.traffic.bytes_out) == (700, 800)
        assert [str(address) for address in end.link.remote_vips] == ["10.66.0.9"]
        assert end.detail == "VPN session of Alice.Smith"
        connected.clear()
        reporter.take(alice, closed=True)
        await eventually(lambda: listed(0))
    finally:
        running.cancel()
        await asyncio.wait({running})

    async def is_stopping() -> bool:
        message = await js.get_last_msg("PRESENCE", subjects.telemetry("vpn1", "presence"))
        return message.data is not None and Presence.model_validate_json(message.data).state == "stopping"

    await eventually(is_stopping)


def test_names_have_the_characters_of_tunnels() -> None:
    assert tunnel_name("bob", SPI) == "vpn-bob-a1b2c3d4"
    assert tunnel_name("B" * 64, SPI) == f"vpn-{'b' * 50}-a1b2c3d4"


def test_a_folder_without_an_enrolment_is_named(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{}")
    with pytest.raises(ServerSettingError, match=r"identity\.json is damaged"):
        FleetReporter(tmp_path, list)


@pytest.mark.root
@pytest.mark.usefixtures("namespaces")
def test_a_server_works_while_the_bus_of_its_fleet_is_unavailable() -> None:
    with make_vpn_bed() as bed:
        folder = bed.folder / "fleet"
        folder.mkdir(mode=0o700)
        write_seed(folder / "nkey.seed", KeyPair.generate(KeyKind.USER))
        identity = FleetIdentity(peer="vpn1", servers=("nats://127.0.0.1:9",))
        (folder / "identity.json").write_text(identity.model_dump_json())
        bed.write_settings(users={"bob": ""})
        bed.settings.write_text(f'fleet = "fleet"\n{bed.settings.read_text()}')
        bed.start()
        with bed.client("bob") as bob:
            assert bed.status().sessions[0].user == "bob"
            assert bob.namespace.run("ping", "-c", "1", "-W", "5", INSIDE[4])
        assert bed.stop() == 0
        assert "fleet.failed" not in bed.log


class ControlPlane:
    """A `warren up` next to the VPN server, in its namespace."""

    def __init__(self, bed: VpnBed, up: Up) -> None:
        self._bed, self._info = bed, up.info
        self._trust = ssl.create_default_context(cafile=up.info["ca_file"])

    def enrol(self, peer: str, folder: Path) -> None:
        """As docs/vpn.md says: a join token, then `warren-agent enrol --state`."""
        token = folder.with_name("token")
        self._run([str(WARREN), "token", "create", "--out", str(token)])
        where = ["--state", str(folder), "--token-file", str(token), "--nats", self._info["nats_url"], "--peer", peer]
        self._run([sys.executable, "-m", "warren_agent", "enrol", *where])

    def _run(self, command: list[str]) -> None:
        where = {"WARREN_URL": self._info["url"], "WARREN_TOKEN_FILE": self._info["token_file"]}
        done = subprocess.run(
            self._bed.namespace.argv(command), env=os.environ | where, capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def tunnels(self, peer: str) -> list[dict[str, Any]]:
        """`GET /api/tunnels` of a peer."""
        headers = {"Authorization": f"Bearer {Path(self._info['token_file']).read_text().strip()}"}

        def ask() -> httpx.Response:
            return httpx.get(
                f"{self._info['url']}/api/tunnels", params={"peer": peer}, headers=headers, timeout=60, trust_env=False,
                verify=self._trust,
            )  # fmt: skip

        reply = in_netns(self._bed.namespace.path, ask)
        assert reply.status_code == 200, reply.text
        return list(json.loads(reply.text)["tunnels"])


@pytest.mark.promises
@pytest.mark.root
@pytest.mark.usefixtures("namespaces")
def test_sessions_of_an_enrolled_server_are_in_the_api() -> None:
    """The whole way: `warren up`, `warren-agent enrol`, the server, two clients, HTTP."""
    with make_vpn_bed() as bed, stack_folder() as folder, running_up(folder / "data", namespace=bed.namespace) as up:
        plane = ControlPlane(bed, up)
        plane.enrol("vpn1", bed.folder / "fleet")
        bed.write_settings(users={"alice": "", "bob": ""})
        bed.settings.write_text(f'fleet = "fleet"\n{bed.settings.read_text()}')
        bed.start()

        def seen(count: int) -> bool:
            return len(plane.tunnels("vpn1")) == count

        with bed.client("alice") as alice:
            with bed.client("bob") as bob:
                assert bob.namespace.run("ping", "-c", "3", "-W", "5", INSIDE[4])
                wait_until(lambda: seen(2), "both sessions are in the API", 120.0)
                found = {tunnel["name"].split("-")[1]: tunnel for tunnel in plane.tunnels("vpn1")}
                end = found["bob"]["ends"]["vpn1"]
                assert (end["state"], end.get("policy")) == ("up", None)
                assert end["link"]["remote_vips"] == [str(address) for address in bob.addresses.values()]
                assert end["link"]["remote_address"] == bed.address_of("bob")
                wait_until(
                    lambda: any(it["ends"]["vpn1"]["traffic"]["packets_in"] >= 3 for it in plane.tunnels("vpn1")),
                    "bob's traffic is reported", 120.0,
                )  # fmt: skip
            wait_until(lambda: seen(1), "the session that is over is gone", 120.0)
            (left,) = plane.tunnels("vpn1")
            assert left["name"].startswith("vpn-alice-")
            assert not alice.session.closed
        assert plane.tunnels("nobody") == []
        assert bed.stop() == 0
        assert "fleet.failed" not in bed.log
