"""What a crashed IPsec daemon has left in the kernel, as the guard's socket carries it: never a key.

charon flushes neither states nor policies when it starts (daemon.c; only `ipsec starter` does): what it does not take over
stays. Ownership is by SPI: an agent names the CHILD_SAs that its daemon had, and the guard finds what belongs to them.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.base import STRICT_INT, Document, Input
from warren_contracts.names import Spi
from warren_contracts.protection import DeviceName, Mark

MAX_SAS = 4_096  # CHILD_SAs of one request


class OwnedSa(Input, defer_build=True):
    """One CHILD_SA that an agent's daemon had: its two ESP SAs, between these outer addresses.

    `if_id_in` and `mark_in` are those of the inbound policies, whose templates name no SPI.
    """

    local: IPAddress
    remote: IPAddress
    spi_in: Spi
    spi_out: Spi
    if_id_in: Mark = 0
    mark_in: Mark = 0


class LeftoverKind(StrEnum):
    """Kinds of what a daemon leaves in the kernel."""

    STATE = "state"
    POLICY = "policy"
    ROUTE = "route"  # of charon's table (220)


class Leftover(Input, defer_build=True):
    """One state, policy or route of the kernel. Which fields are set depends on the kind.

    A state has its outer addresses as networks of one address, and an SPI; a policy its selector's networks, a direction and
    the kernel's index; a route its destination and its device.
    """

    kind: LeftoverKind
    source: IPNetwork | None = None
    destination: IPNetwork
    spi: Spi = "00000000"
    direction: Annotated[str, Field(pattern="^(in|out|fwd|)$")] = ""
    index: Annotated[int, Field(ge=0, le=0xFFFF_FFFF), STRICT_INT] = 0
    mark: Mark = 0
    mark_mask: Mark = 0
    if_id: Mark = 0
    device: DeviceName | None = None


SAS = Annotated[tuple[OwnedSa, ...], Field(min_length=1, max_length=MAX_SAS)]
Leftovers = Annotated[tuple[Leftover, ...], Field(max_length=8 * MAX_SAS)]


class LeftoversRequest(Input, defer_build=True):
    """What of these CHILD_SAs does the kernel hold? An agent asks for those that its daemon no longer has."""

    request: Literal["leftovers"] = "leftovers"
    sas: SAS


class RemoveLeftoversRequest(Input, defer_build=True):
    """Remove exactly these; what is no longer there, or no longer belongs to these CHILD_SAs, is left alone."""

    request: Literal["remove-leftovers"] = "remove-leftovers"
    sas: SAS
    leftovers: Leftovers


class LeftoversReply(Document, defer_build=True):
    """The reply to both: what was found, or removed. `error` is empty if it was done."""

    error: Annotated[str, StringConstraints(max_length=1_024)] = ""
    leftovers: Leftovers = ()
