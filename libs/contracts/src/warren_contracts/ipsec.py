"""An IPsec link: one IKE_SA and its CHILD_SAs. What belongs to the IKE_SA and to a CHILD_SA are two types.

Field names follow swanctl.conf; durations are whole seconds, sizes are bytes.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.auth import Auth
from warren_contracts.base import STRICT_INT, Document, Input, StrictBool
from warren_contracts.crypto import CryptoProposal
from warren_contracts.identities import Identity
from warren_contracts.names import ChildName
from warren_contracts.selectors import Selector

MIN_LIFETIME = 300  # s; SA lifetimes are between 5 minutes ...
MAX_LIFETIME = 86_400  # s; ... and 24 hours
DEFAULT_IKE_REKEY = 14_400  # s, charon's default
DEFAULT_CHILD_REKEY = 3_600  # s, charon's default
MAX_SELECTORS = 64  # of one side of one child
MAX_PROPOSALS = 16  # of one level
MAX_CHILDREN = 16  # of one tunnel
DEFAULT_CHILD = "net"

Lifetime = Annotated[int, Field(ge=MIN_LIFETIME, le=MAX_LIFETIME), STRICT_INT]
Seconds = Annotated[int, Field(ge=0, le=MAX_LIFETIME), STRICT_INT]
Count = Annotated[int, Field(ge=0), STRICT_INT]


class Mode(StrEnum):
    """How a CHILD_SA carries packets."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"
    BEET = "beet"


class DpdAction(StrEnum):
    """What happens to the CHILD_SAs of a peer that does not answer."""

    CLEAR = "clear"
    TRAP = "trap"
    RESTART = "restart"


class Childless(StrEnum):
    """Whether an IKE_SA may be made without a CHILD_SA (RFC 6023)."""

    ALLOW = "allow"
    PREFER = "prefer"
    FORCE = "force"
    NEVER = "never"


class Fragmentation(StrEnum):
    """IKE fragmentation (RFC 7383)."""

    YES = "yes"
    ACCEPT = "accept"
    NO = "no"


class IkeOptions(Input):
    """Options of the IKE_SA that both ends share. None: derived as strongSwan does, see `resolved`."""

    version: Annotated[int, Field(ge=1, le=2), STRICT_INT] = 2
    rekey_time: Lifetime = DEFAULT_IKE_REKEY
    reauth_time: Seconds = 0  # 0: rekey only
    over_time: Seconds | None = None  # after this the SA is closed if it was not rekeyed; None: 10 % of the rekey time
    # A random value up to this is subtracted from the rekey time, so that tunnels are not rekeyed at the same time. None:
    # charon's default, which is over_time.
    rand_time: Seconds | None = None
    dpd_delay: Annotated[int, Field(ge=0, le=3_600), STRICT_INT] = 30  # s of silence before a probe; 0: off
    dpd_timeout: Annotated[int, Field(ge=0, le=3_600), STRICT_INT] = 0  # IKEv1 only
    mobike: StrictBool = False
    encap: StrictBool = False  # UDP encapsulation even without a NAT
    fragmentation: Fragmentation = Fragmentation.YES
    childless: Childless = Childless.ALLOW
    keyingtries: Annotated[int, Field(ge=0, le=100), STRICT_INT] = 1
    dscp: Annotated[int, Field(ge=0, le=63), STRICT_INT] = 0
    send_cert: StrictBool = True
    send_certreq: StrictBool = True
    ppk_required: StrictBool = False

    @model_validator(mode="after")
    def _randomness_leaves_time(self) -> "IkeOptions":
        if (self.rand_time or 0) >= self.rekey_time:
            raise ValueError("rand_time must be less than rekey_time, or the SA is rekeyed continuously")
        return self

    def resolved(self) -> "IkeOptions":
        """The same options without derived values: equal for two that have the same effect on an IKE_SA."""
        over_time = max(self.rekey_time, self.reauth_time) // 10 if self.over_time is None else self.over_time
        dpd_timeout = 0 if self.version == 2 else self.dpd_timeout
        return self.model_copy(update={"over_time": over_time, "dpd_timeout": dpd_timeout})


class ChildOptions(Input):
    """Options of a CHILD_SA that both ends share. None: derived as strongSwan does, see `resolved`."""

    mode: Mode = Mode.TUNNEL
    rekey_time: Lifetime | None = None  # None: life_time / 1.1, or 3,600
    life_time: Lifetime | None = None  # None: 110 % of rekey_time
    rekey_bytes: Count | None = None  # None: life_bytes / 1.1, or no limit (0)
    life_bytes: Count | None = None  # None: 110 % of rekey_bytes
    rekey_packets: Count | None = None
    life_packets: Count | None = None
    # As in IkeOptions. None: charon's default, which is life time less rekey time.
    rand_time: Seconds | None = None
    rand_bytes: Count | None = None
    rand_packets: Count | None = None
    dpd_action: DpdAction = DpdAction.CLEAR
    replay_window: Annotated[int, Field(ge=32, le=4_096), STRICT_INT] = 64  # packets; SP 800-77r1 requires at least 64
    tfc_padding: Annotated[int, Field(ge=0, le=1_500), STRICT_INT] = 0
    ipcomp: StrictBool = False
    inactivity: Seconds = 0
    copy_df: StrictBool = True
    copy_ecn: StrictBool = True
    copy_dscp: Annotated[str, StringConstraints(pattern="^(out|in|yes|no)$")] = "out"
    hw_offload: Annotated[str, StringConstraints(pattern="^(no|auto|yes|crypto|packet)$")] = "no"

    @model_validator(mode="after")
    def _rekeys_before_it_ends(self) -> "ChildOptions":
        limits = self.resolved()
        assert limits.rekey_time is not None
        assert limits.life_time is not None
        if limits.life_time <= limits.rekey_time:
            raise ValueError("life_time must be greater than rekey_time, or the SA expires before it is rekeyed")
        if (self.rand_time or 0) >= limits.rekey_time:
            raise ValueError("rand_time must be less than rekey_time, or the SA is rekeyed continuously")
        for unit in ("bytes", "packets"):
            rekey, life = getattr(limits, f"rekey_{unit}"), getattr(limits, f"life_{unit}")
            if life and rekey and life <= rekey:
                raise ValueError(f"life_{unit} must be greater than rekey_{unit}")
            if (getattr(self, f"rand_{unit}") or 0) > rekey:
                raise ValueError(f"rand_{unit} must not exceed rekey_{unit}")
        return self

    def resolved(self) -> "ChildOptions":
        """The same options without derived values: equal for two that have the same effect on a CHILD_SA.

        `yes` and `crypto` of hw_offload mean the same: strongSwan 5.9.10 renamed it.
        """
        rekey, life = _pair(self.rekey_time, self.life_time, DEFAULT_CHILD_REKEY)
        rekey_bytes, life_bytes = _pair(self.rekey_bytes, self.life_bytes, 0)
        rekey_packets, life_packets = _pair(self.rekey_packets, self.life_packets, 0)
        return self.model_copy(
            update={
                "rekey_time": rekey, "life_time": life, "rekey_bytes": rekey_bytes, "life_bytes": life_bytes,
                "rekey_packets": rekey_packets, "life_packets": life_packets,
                "hw_offload": "crypto" if self.hw_offload == "yes" else self.hw_offload,
            }
        )  # fmt: skip


def _pair(rekey: int | None, life: int | None, default: int) -> tuple[int, int]:
    """The rekey and the life limit, one derived from the other: life is 110 % of rekey (swanctl.conf(5))."""
    if rekey is None:
        rekey = default if life is None else life * 100 // 110
    return rekey, rekey * 110 // 100 if life is None else life


WHOLE_MASK = 0xFFFF_FFFF
U32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF), STRICT_INT]


class Xfrm(Input):
    """XFRM interface ids and marks in the kernel of one end; they are not negotiated. 0: not used.

    `if_id_*` bind policies and SAs to an XFRM interface, `mark_*` to packets with a mark; `set_mark_*` mark decrypted
    packets (in) and ESP packets (out).
    """

    if_id_in: U32 = 0
    if_id_out: U32 = 0
    mark_in: U32 = 0
    mark_in_mask: U32 = WHOLE_MASK
    mark_out: U32 = 0
    mark_out_mask: U32 = WHOLE_MASK
    set_mark_in: U32 = 0
    set_mark_in_mask: U32 = WHOLE_MASK
    set_mark_out: U32 = 0
    set_mark_out_mask: U32 = WHOLE_MASK

    @model_validator(mode="after")
    def _marks_lie_in_their_masks(self) -> "Xfrm":
        for name in ("mark_in", "mark_out", "set_mark_in", "set_mark_out"):
            mark, mask = getattr(self, name), getattr(self, f"{name}_mask")
            if mark & ~mask:
                raise ValueError(f"{name} {mark:#x} has bits outside {name}_mask {mask:#x} and would match no packet")
            if mask != WHOLE_MASK and not mark:
                raise ValueError(f"{name}_mask requires {name}")
        return self


class IkeSettings(IkeOptions, defer_build=True):
    """All settings of the IKE_SA besides authentication. `vips` and `pools` are virtual addresses (RFC 7296, 2.19)."""

    proposals: Annotated[tuple[CryptoProposal, ...], Field(min_length=1, max_length=MAX_PROPOSALS)]
    vips: tuple[IPAddress, ...] = ()  # to request; 0.0.0.0 and :: request any
    pools: tuple[IPNetwork, ...] = ()  # to assign from
    ppk_id: Identity | None = None


class ChildSettings(ChildOptions, defer_build=True):
    """All settings of one CHILD_SA at one end."""

    name: ChildName = DEFAULT_CHILD
    local_ts: Annotated[tuple[Selector, ...], Field(min_length=1, max_length=MAX_SELECTORS)]
    remote_ts: Annotated[tuple[Selector, ...], Field(min_length=1, max_length=MAX_SELECTORS)]
    proposals: Annotated[tuple[CryptoProposal, ...], Field(min_length=1, max_length=MAX_PROPOSALS)]


class IpsecLink(Document, defer_build=True):
    """One IKE_SA and its CHILD_SAs, as one end sees them."""

    kind: Literal["ipsec"] = "ipsec"
    ike: IkeSettings
    local_auth: Auth
    remote_auth: Auth
    children: Annotated[tuple[ChildSettings, ...], Field(min_length=1, max_length=MAX_CHILDREN)]
    xfrm: Xfrm = Xfrm()
