"""The routes into tunnels that the kernel holds (charon's table 220), as the guard's socket carries them.

A daemon that does ESP itself receives packets by these routes only. The agent cannot read them: it has no netlink socket.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.addresses import IPNetwork
from warren_contracts.base import Document, Input
from warren_contracts.protection import DeviceName

MAX_ROUTES = 200_000  # the pairs of networks that one gateway may protect


class TunnelRoute(Input, defer_build=True):
    """One route; 0.0.0.0/0 and ::/0 are the default routes."""

    destination: IPNetwork
    device: DeviceName


class TunnelRoutesRequest(Input, defer_build=True):
    """Which routes into tunnels does the kernel hold?"""

    request: Literal["tunnel-routes"] = "tunnel-routes"


class TunnelRoutesReply(Document, defer_build=True):
    """The reply. `error` is empty if they could be read. `in_use`: a rule of routing looks the table up, as charon makes it; another
    table may be set in charon (`routing_table`)."""

    error: Annotated[str, StringConstraints(max_length=1_024)] = ""
    in_use: bool = False
    routes: Annotated[tuple[TunnelRoute, ...], Field(max_length=MAX_ROUTES)] = ()
