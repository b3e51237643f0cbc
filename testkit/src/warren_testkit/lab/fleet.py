"""Three guarded sites in a mesh under the whole product: charons, guards, agents, and `warren up` with every service.

Policy `edited` is the tunnel between hub and spoke, whose algorithms alternate; policy `steady` are the tunnels of the third site,
which no edit touches. Every site has routes in clear to the others.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx
import psutil

from warren_cli.errors import CliError
from warren_contracts.peers import JoinTokenRequest
from warren_contracts.policy import Policy
from warren_lab.capture import Capture, ClearPacket
from warren_lab.charon_conf import IpsecBackend
from warren_lab.errors import LabError
from warren_lab.lab import Lab
from warren_lab.ping import Ping
from warren_stack.demo.api import Api
from warren_stack.stack import Stack, StackOptions
from warren_testkit.agent.process import AgentProcess
from warren_testkit.lab.kernel import join, make_wire
from warren_testkit.lab.promises import INTERVAL_S, Site
from warren_testkit.lab.vici_gate import ViciGate
from warren_testkit.waiting import eventually

LIMIT_S = 120.0
CIPHERS = ("aes256gcm16-prfsha384-x25519", "aes128gcm16-prfsha256-x25519")
EDITED = "hub-spoke"
STEADY = ("branch-hub", "branch-spoke")
SERVICES = {
    "nats-server": "nats-server", "policy": "warren_policy", "registry": "warren_registry", "metrics": "warren_metrics",
}  # fmt: skip

until = partial(eventually, limit_s=LIMIT_S, ignoring=(CliError, LabError, httpx.HTTPError, OSError), pause_s=0.05)


def edited(number: int) -> Policy:
    """The policy of the tunnel that is edited; every second edit has other algorithms at both levels."""
    ike = CIPHERS[number % 2]
    return Policy.model_validate(
        {
            "id": "edited",
            "tunnels": [{"name": EDITED, "ends": [{"peer": "hub"}, {"peer": "spoke"}]}],
            "crypto": {"ike": [ike], "esp": [f"{ike.partition('-')[0]}-x25519"]},
        }
    )


def steady() -> Policy:
    ends = [[{"peer": peer} for peer in name.split("-")] for name in STEADY]
    tunnels = [{"name": name, "ends": both} for name, both in zip(STEADY, ends, strict=True)]
    return Policy.model_validate({"id": "steady", "tunnels": tunnels})


class FleetSite(Site):
    """A site, its agent, and a gate before its charon."""

    agent: AgentProcess

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        super().__init__(lab, name, number, IpsecBackend.LIBIPSEC)
        self.name = name
        self.gate = ViciGate(self.gateway.folder / "gate.sock", self.gateway.vici)

    async def ciphers(self) -> dict[str, list[str]]:
        """The IKE algorithms of every IKE_SA that carries traffic, by tunnel."""
        found: dict[str, list[str]] = {}
        for sa in await self.gateway.ike_sas():
            if sa.handle is not None and any(child.state == "INSTALLED" for child in sa.children):
                found.setdefault(sa.handle.tunnel, []).append(sa.cipher)
        return found


class FleetBed:
    """Everything at work."""

    def __init__(self, stack: Stack, api: Api, sites: Sequence[FleetSite]) -> None:
        self.stack, self.api = stack, api
        self.hub, self.spoke, self.branch = sites
        self.sites = tuple(sites)
        self.number = 0  # of the edit in force

    async def edit(self) -> None:
        """Publish the next edit; repeated until the control plane takes it."""
        self.number += 1
        await until(partial(self.applied, edited(self.number)), what="the policy service")

    async def applied(self, policy: Policy) -> bool:
        """Publish a policy."""
        await self.api.apply(policy)
        return True

    async def stands(self) -> None:
        """Wait until both ends have exactly the newest edit, and the other tunnels are up."""

        async def converged() -> bool:
            wanted = {
                self.hub: {EDITED: [CIPHERS[self.number % 2]], STEADY[0]: [CIPHERS[0]]},
                self.spoke: {EDITED: [CIPHERS[self.number % 2]], STEADY[1]: [CIPHERS[0]]},
            }
            return all([await site.ciphers() == it for site, it in wanted.items()])

        await until(converged, what=f"edit {self.number} at both ends")

    def service(self, name: str) -> psutil.Process | None:
        """The process of a service, or of nats-server."""
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if any(SERVICES[name] in word for word in child.cmdline()[:3]):
                    return child
        return None

    async def kill_service(self, name: str) -> None:
        """Kill it; its supervisor starts it again."""
        victim = self.service(name)
        assert victim is not None
        victim.kill()

        async def returned() -> bool:
            now = self.service(name)
            return now is not None and now.pid != victim.pid and await self._is_ready()

        await until(returned, what=f"{name} returns and everything is ready")

    async def _is_ready(self) -> bool:
        return (await self.api._client.get("/api/health")).status_code == httpx.codes.OK

    @contextlib.contextmanager
    def traffic(self) -> Iterator["FleetTraffic"]:
        """50 pings a second between each two gateways, both ways; every frame on the wire is looked at."""
        inner = frozenset(IPv4Address(site.gateway.protected) for site in self.sites)
        with contextlib.ExitStack() as stack:
            captures = [stack.enter_context(Capture(site.namespace, "wan", inner)) for site in self.sites]
            pings = {
                (own.name, peer.name): stack.enter_context(
                    Ping(
                        own.namespace,
                        IPv4Address(own.gateway.protected),
                        IPv4Address(peer.gateway.protected),
                        INTERVAL_S,
                    )
                )
                for own, peer in permutations(self.sites, 2)
            }
            yield FleetTraffic(captures, pings)

    def print_logs(self) -> None:
        """For the report of a test that failed."""
        for site in self.sites:
            site.agent.print_log()


class FleetTraffic:
    """Running pings by their two ends, and what was seen of them."""

    def __init__(self, captures: Sequence[Capture], pings: dict[tuple[str, str], Ping]) -> None:
        self._captures, self._pings = captures, pings

    async def answered(self) -> None:
        """Until every ping is answered that is sent from now on."""
        before = {ends: ping.counts().sent for ends, ping in self._pings.items()}
        await until(
            lambda: all(ping.answered_from(before[ends]) > 2 for ends, ping in self._pings.items()),
            what="replies on every tunnel",
        )

    def sent(self) -> int:
        return sum(ping.counts().sent for ping in self._pings.values())

    def lost(self, *, without: str = "", edited: bool = False) -> list[str]:
        """Requests without an answer on the tunnels that no edit touches and that do not end at `without`; of the edited one if so.

        To be asked after the traffic has stopped: late replies have come then. Each as its ends and when it was sent.
        """
        chosen = {
            ends: ping
            for ends, ping in self._pings.items()
            if ({*ends} == {"hub", "spoke"}) is edited and (edited or without not in ends)
        }
        return [
            f"{source} to {target}, {datetime.fromtimestamp(echo.sent, UTC):%H:%M:%S.%f}"
            for (source, target), ping in chosen.items()
            for echo in ping.echoes()
            if echo.received is None
        ]

    def clear(self) -> list[ClearPacket]:
        return [packet for capture in self._captures for packet in capture.clear_packets()]


@contextlib.asynccontextmanager
async def fleet_bed(folder: Path) -> AsyncIterator[FleetBed]:
    """All tunnels up on edit 0."""
    async with contextlib.AsyncExitStack() as stack:
        options: dict[str, Any] = {"http_port": 0, "nats_port": 0, "metrics_port": 0}
        product = await stack.enter_async_context(Stack(StackOptions(folder / "data", **options)))
        api = await stack.enter_async_context(Api(product.info.url, product.info.token_file))
        lab = stack.enter_context(Lab("wm"))
        wire = lab.namespace("wire")
        make_wire(wire)
        sites = [FleetSite(lab, name, number) for number, name in enumerate(("hub", "spoke", "branch"), 1)]
        for site in sites:
            join(wire, site.namespace, site.name, site.gateway.address)
            site.connect_host()
        for own, peer in permutations(sites, 2):
            own.route_to(peer)
        bed = FleetBed(product, api, sites)
        for site in sites:
            await _start(stack, bed, site)
        stack.callback(bed.print_logs)
        for policy in (steady(), edited(0)):
            await until(partial(bed.applied, policy), what="the policy service")
        await bed.stands()
        yield bed


async def _start(stack: contextlib.AsyncExitStack, bed: FleetBed, site: FleetSite) -> None:
    """A site's charon, guard and agent, which joins the fleet."""
    await site.gateway.start()
    await site.gate.start()
    stack.push_async_callback(site.gate.stop)
    await site.guard.start()
    stack.push_async_callback(site.guard.stop)
    request = JoinTokenRequest(tags=("site",), peer=site.name)
    token = await until(lambda: bed.api.join_token(request), what="a join token")  # an idle connection may end
    environment = {
        "WARREN_NATS_URL": bed.stack.info.nats_url, "WARREN_PEER": site.name, "WARREN_VICI_SOCKET": str(site.gate.path),
        "WARREN_ENDPOINTS": site.gateway.address, "WARREN_SUBNETS": site.gateway.network, **site.guard.environment,
    }  # fmt: skip
    site.agent = AgentProcess(site.gateway.folder, environment, token.token)
    await site.agent.enrol()
    await site.agent.start()
    stack.push_async_callback(site.agent.stop)
