"""The port of a driver: commands, `capabilities`, and a stream of events.

A driver applies tunnels with one daemon and reports their state. When to start a tunnel is the
watchdog's decision, not the driver's; how a change is made without a gap is the driver's. Every method that talks to the
daemon raises DriverUnavailableError while it is unavailable, and the driver picks it up again by itself when it returns.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from pydantic import BaseModel

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ChildSaStatus, ReasonCode, TrafficStats, TunnelStatus
from warren_contracts.tunnel import Tunnel

# s without being converged, after which the end that is not the tunnel's initiator starts it, and closes what is superseded: by
# then the initiator had its time. The watchdog and the driver must agree, else both ends act at once.
TAKEOVER_AFTER = 30.0


# The names of children of a tunnel; None: all.
Children = frozenset[str] | None

Reply = TypeVar("Reply", bound=BaseModel)


class KernelGuard(Protocol):
    """The guard of this host, which removes what a crashed daemon has left in the kernel (`warren_contracts.leftovers`), and lists
    the routes into tunnels (`warren_contracts.tunnel_routes`)."""

    async def exchange(self, request: BaseModel, reply: type[Reply]) -> Reply:
        """The reply to a request; GuardError if the guard does not answer or refuses it."""


class ApplyEffect(StrEnum):
    """What putting a configuration did. The words are those of `AppliedTunnel.step`."""

    CREATED = "created"
    UPDATED_CHILD = "updated-child"  # its IKE_SA stays; the CHILD_SA is replaced once the tunnel is started again
    UPDATED_IKE = "updated-ike"  # a new IKE_SA next to the old one once the tunnel is started again
    UNCHANGED = "unchanged"  # nothing was sent to the daemon


@dataclass(frozen=True)
class DaemonTunnelChanged:
    """What the daemon holds of a tunnel has changed.

    `converged` says that it is up on its newest configuration and on nothing else: until then the watchdog starts it.
    """

    name: str
    status: TunnelStatus
    converged: bool


@dataclass(frozen=True)
class AttemptFailed:
    """A negotiation ended without a tunnel (or the peer does not answer), and why."""

    name: str
    code: ReasonCode
    detail: str
    final: bool = True  # False: the daemon still tries


@dataclass(frozen=True)
class DaemonUp:
    """The daemon answers (again) and holds every configuration that the driver was given.

    `socket` is its control socket, `plugins` what it has loaded, separated by a space.
    """

    version: str
    socket: str = ""
    plugins: str = ""


@dataclass(frozen=True)
class DaemonDown:
    """The daemon does not answer. Sent once for each absence, and again if another `step` of reaching it fails.

    `detail` begins with the step, and says what to do.
    """

    detail: str
    step: str = ""


@dataclass(frozen=True)
class DriftFound:
    """The daemon did not hold what it was given for a tunnel, or holds another's connection for the same traffic.

    `corrected` says whether the driver has repaired it.
    """

    name: str
    code: ReasonCode
    detail: str
    corrected: bool


DriverEvent = DaemonTunnelChanged | AttemptFailed | DriftFound | DaemonUp | DaemonDown


@dataclass(frozen=True)
class Bypassed:
    """Packets that pass the tunnels by in clear: within each network, and between own addresses and a host."""

    networks: tuple[IPNetwork, ...] = ()
    hosts: tuple[tuple[tuple[IPAddress, ...], IPAddress], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.hosts)


class Driver(Protocol):
    """What an agent asks of a driver. Names are those of tunnels; a generation or a handle never shows."""

    async def initialize(self) -> None:
        """Begin to look for the daemon; returns at once, DaemonUp or DaemonDown follows in `events()`."""

    async def capabilities(self) -> DriverCapabilities:
        """What this daemon can express."""

    def validate(self, config: Tunnel) -> None:
        """ConfigRefusedError, naming the field, when this daemon cannot express the configuration."""

    async def pass_by(self, bypassed: Bypassed) -> bool:
        """Keep these packets out of the tunnels from now on, and no others; False if the data plane has no means for it.

        It must happen before the tunnels whose selectors contain them. ConfigRefusedError with the daemon's reason.
        """

    def routes_changed(self) -> None:
        """Links, or routes into tunnels, of this host may have changed: see soon whether packets still reach the tunnels.

        Where they do not, that is repaired, and DriftFound follows.
        """

    async def create_tunnel(self, config: Tunnel) -> ApplyEffect:
        """Make the tunnel exist with this configuration, without starting it; harmless when it exists already.

        TunnelChanged follows in any case. ConfigRefusedError leaves everything as it was.
        """

    async def update_tunnel(self, config: Tunnel) -> ApplyEffect:
        """Give the tunnel this configuration. What runs keeps running on the old one until the tunnel is started.

        TunnelChanged follows in any case. ConfigRefusedError leaves everything as it was.
        """

    async def delete_tunnel(self, name: str) -> None:
        """Take the tunnel and all its SAs away; harmless when there is none."""

    async def start_tunnel(self, name: str) -> None:
        """Try once to bring the tunnel up on its newest configuration; the result comes in `events()`.

        An attempt that is still under way is given up for this one; a tunnel that is converged is left alone.
        """

    async def give_up(self, name: str, force: bool = False) -> bool:
        """Give up the attempt under way, for a tunnel that waits; True if there is none any more.

        What carries traffic stays. False, and nothing is done, if the peer has answered in it, unless `force`.
        """

    async def renew_tunnel(self, name: str) -> None:
        """The peer's daemon was restarted: let the next start make new SAs, whatever is up. What is up stays until then.

        TunnelChanged follows if there was anything; it is not converged.
        """

    async def rekey_tunnel(self, name: str, *, ike: bool = True, children: Children = None) -> None:
        """Give whatever is up of the tunnel new keys, without an interruption; returns once that has begun. Harmless when it is down.

        `ike` says whether its IKE_SA is meant, `children` whose CHILD_SAs are.
        """

    async def adopt(self, connection: str) -> str:
        """Take over a connection that somebody else made in the daemon and that equals a tunnel; returns the tunnel's name.

        The tunnel is brought up next to it before it is removed. ConfigRefusedError with the differing fields when it equals
        none, UnknownTunnelError when there is no such connection.
        """

    async def stop_tunnel(self, name: str, *, force: bool = False, children: Children = None) -> None:
        """Close the tunnel's SAs; its configuration stays, and the peer may bring it up again.

        `force` removes them at once, whether or not the peer answers: another tunnel is to carry their traffic. With `children` only
        the CHILD_SAs of these are closed, and their IKE_SA stays.
        """

    async def tunnel_status(self, name: str) -> TunnelStatus:
        """The tunnel as the daemon has it now. UnknownTunnelError when it was never created."""

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        """All tunnels as the daemon has them now, with fresh counters."""

    async def statistics(self, name: str) -> TrafficStats:
        """The tunnel's counters since it was first seen up."""

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        """The tunnel's CHILD_SAs."""

    async def cleanup(self, teardown: bool = False) -> None:
        """Let go of the daemon. Tunnels stay up unless `teardown` asks for their removal."""

    def events(self) -> AsyncIterator[DriverEvent]:
        """What happens, in order, until `cleanup`. One reader."""
