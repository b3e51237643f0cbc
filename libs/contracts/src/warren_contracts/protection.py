"""Leak protection: what a policy asks for, and the traffic that a gateway must not send in clear.

The models are those of the guard's socket (`warren_contracts.guard`) and of `expand`.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from warren_contracts.base import STRICT_INT, Input
from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.selectors import Selector

MAX_AFTER_DELETE = 31_536_000  # s: one year
KEEP = "keep"


class Protect(StrEnum):
    """From when on packets for the protected traffic of a tunnel are dropped unless an SA carries them."""

    ALWAYS = "always"  # from the moment an agent knows the policy
    WHEN_APPLIED = "when-applied"  # from the first SA until the policy is deleted
    OFF = "off"


class LocalBypass(StrEnum):
    """Whether a gateway may pass a tunnel by for what would cut it off: its own networks, its name servers, the bus."""

    ALLOW = "allow"
    FORBID = "forbid"  # a tunnel that would need it is refused


def _after_delete(value: object) -> int | str:
    if value == KEEP or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AFTER_DELETE):
        return value if isinstance(value, int) else KEEP
    raise ValueError(f"must be seconds from 0 to {MAX_AFTER_DELETE:,}, or `{KEEP}`")


# Seconds for which traffic stays protected after its policy was deleted; `keep`: until `warren agent release`.
AfterDelete = Annotated[
    int | str,
    PlainValidator(_after_delete),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_AFTER_DELETE}, {"const": KEEP}]}),
]

# A Linux interface name (IFNAMSIZ is 16 with its end). The kernel allows more characters; no tunnel device needs them.
DeviceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,15}$")]
Mark = Annotated[int, Field(ge=0, le=0xFFFF_FFFF), STRICT_INT]
Selectors = Annotated[tuple[Selector, ...], Field(min_length=1, max_length=256)]


class TrafficPair(Input, defer_build=True):
    """The traffic of one child: packets from any `local` to any `remote` selector, and back.

    A dynamic local selector stands for the addresses of the host itself. A remote one is never dynamic here.
    """

    local: Selectors
    remote: Selectors

    @model_validator(mode="after")
    def _remote_is_known(self) -> "TrafficPair":
        if any(selector.addresses is None for selector in self.remote):
            raise ValueError("a remote selector must not be dynamic: the addresses to protect would be unknown")
        return self


def _needs_an_entry(pairs: tuple[TrafficPair, ...], info: ValidationInfo) -> tuple[TrafficPair, ...]:
    if not pairs and not info.data.get("if_id_out"):
        raise PydanticCustomError("too_short", "must have at least one entry")
    return pairs


class ProtectedTraffic(Input, defer_build=True):
    """What one tunnel protects. `mark` restricts it to packets with this firewall mark (0: any).

    `if_id_*` are its XFRM interfaces, which the guard makes. A tunnel between all addresses has no pairs: what is routed into
    its interface is its traffic.
    """

    if_id_in: Mark = 0
    if_id_out: Mark = 0
    policy: PolicyId
    tunnel: TunnelName
    peer: PeerId | None = None
    protect: Protect = Protect.ALWAYS
    after_delete: AfterDelete = 0
    pairs: Annotated[
        tuple[TrafficPair, ...], Field(max_length=16, validate_default=True), AfterValidator(_needs_an_entry)
    ] = ()
    mark: Mark = 0
    mark_mask: Mark = 0xFFFF_FFFF

    @property
    def key(self) -> tuple[PolicyId, TunnelName]:
        """What identifies it at a guard."""
        return self.policy, self.tunnel
