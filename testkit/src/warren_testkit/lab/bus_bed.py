"""Two sites of which the spoke's agent reaches the bus over a network of its gateway: what a tunnel's selectors may cut off."""

import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_interface
from pathlib import Path

from warren_contracts.policy import Policy
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Presence, TunnelChange
from warren_lab.charon_conf import IpsecBackend
from warren_lab.ping import ping_command
from warren_testkit.agent.control import Control
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.lab.promises import EMULATED_INTERVAL_S, INTERVAL_S, PromiseBed, Sites, sites
from warren_testkit.lab.relay import PORT, relayed

NAME = "wide"
BUS = "198.51.100.10"
SECOND_BUS = "198.51.100.11"
CONFIRM_WITHIN = 300  # s; a busy machine must not take a change back that a test wants
LIMIT = 120.0  # s
EMULATED_LIMIT = 240.0  # s, on the emulated machine of `make test-kernel`


def wide(*subnets: str, **changes: object) -> Policy:
    """A tunnel between the spoke's network and these networks at the hub."""
    ends = [{"peer": "hub", "subnets": list(subnets)}, {"peer": "spoke"}]
    return Policy.model_validate({"id": "wide", "tunnels": [{"name": NAME, "ends": ends}], **changes})


class BusBed(PromiseBed):
    """Two sites; the spoke's agent reaches the bus through its gateway's namespace."""

    def __init__(self, both: Sites, control: Control, plane: IpsecBackend, confirm_within: int) -> None:
        emulated = plane is IpsecBackend.KERNEL
        super().__init__(both, control, EMULATED_INTERVAL_S if emulated else INTERVAL_S)
        self.limit = EMULATED_LIMIT if emulated else LIMIT
        agent = self.agents[1]
        agent.before = tuple(self.spoke.namespace.argv([]))
        agent.settings |= {
            "WARREN_NATS_URL": f"nats://{BUS}:{PORT},nats://{SECOND_BUS}:{PORT}",
            "WARREN_NATS_CLEARTEXT": "allow",
            "WARREN_CONFIRM_WITHIN": str(
                0 if emulated else confirm_within
            ),  # there a question to the bus may take longer
        }

    async def up(self, since: int = 0) -> None:
        """Wait until the spoke reports its tunnel up."""
        await self.control.received(
            TunnelChange, "spoke", lambda it: it.status.state is TunnelState.UP, since=since, within=self.limit
        )

    async def state_is(self, reason: ReasonCode, since: int = 0) -> TunnelChange:
        """Wait until the spoke reports its tunnel with a reason."""
        return await self.control.received(
            TunnelChange, "spoke", lambda it: it.status.reason is reason, since=since, within=self.limit
        )

    async def bus_is_reached(self) -> None:
        """Wait for a heartbeat that is sent from now on."""
        await self.control.received(Presence, "spoke", lambda it: True, since=self.control.count, within=self.limit)

    async def network_is_reached(self) -> None:
        """The host behind the spoke's gateway answers it, and the other way round."""
        site = self.spoke
        assert await site.gateway.ping(site.host_address)
        site.host.run(*ping_command(site.gateway.protected, site.host_address))

    def cut_off(self) -> list[str]:
        """Make a rule of routing, before the guard's, that leads the bus into whatever tunnel takes it; returns its words."""
        rule = ["priority", "180", "to", "198.51.100.0/24", "lookup", "220"]
        self.spoke.namespace.run("ip", "rule", "add", *rule)
        return rule

    def rules(self, version: int = 4) -> str:
        return self.spoke.namespace.run("ip", f"-{version}", "rule")


@contextlib.asynccontextmanager
async def bus_bed(folder: Path, plane: IpsecBackend, confirm_within: int = CONFIRM_WITHIN) -> AsyncIterator[BusBed]:
    """Both sites at work; no policy is published. `confirm_within` (s) is the spoke's."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(folder))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        both = stack.enter_context(sites(plane))
        spoke = both.spoke
        bus = spoke.lab.namespace("bus")
        spoke.lab.link(bus, "mgmt", f"{BUS}/24", spoke.namespace, "mgmt", "198.51.100.2/24")
        bus.add_address("mgmt", ip_interface(f"{SECOND_BUS}/24"))
        both.hub.gateway.add_address("198.51.100.1/24")  # kernel-libipsec wants one in each of its networks
        await stack.enter_async_context(relayed(bus, [BUS, SECOND_BUS], server.port))
        made = BusBed(both, control, plane, confirm_within)
        stack.callback(made.print_logs)
        stack.push_async_callback(made.stop)
        await made.ready()
        yield made
