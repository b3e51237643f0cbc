"""TunnelConfig: one end of one tunnel, as a driver applies it. Derived from policies, never written by hand.

Field names follow swanctl.conf; durations are whole seconds, sizes are bytes, addresses and networks are `ipaddress`
objects in Python and strings in JSON. No field holds a secret: keys are public, and a PSK is referenced by name.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from warren_contracts.addresses import Endpoint
from warren_contracts.addresses import IPAddress as IPAddress
from warren_contracts.addresses import IPNetwork as IPNetwork
from warren_contracts.base import STRICT_INT, Document, Input, StrictBool
from warren_contracts.crypto import CryptoProposal
from warren_contracts.names import PeerId, PolicyId, PublicKey, TunnelName

# An identity as strongSwan reads it: `fqdn:`, `email:`, `ipv4:`, `keyid:` and `asn1dn:` prefixes, or bare. No quotes or
# control characters: it is written to configuration and logs. Compare identities by `identities.canonical`, not as text.
Identity = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@:._=, /*+-]{1,255}$")]

MIN_LIFETIME = 300  # s; SA lifetimes are between 5 minutes ...
MAX_LIFETIME = 86_400  # s; ... and 24 hours
Lifetime = Annotated[int, Field(ge=MIN_LIFETIME, le=MAX_LIFETIME), STRICT_INT]


class Mode(StrEnum):
    """How a CHILD_SA carries packets."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"
    BEET = "beet"


class AuthMethod(StrEnum):
    """How one end is authenticated (RFC 7296, 2.15)."""

    PUBKEY = "pubkey"  # raw Ed25519 public keys, RFC 7427 and 8420: the default
    CERTIFICATE = "certificate"
    PSK = "psk"
    EAP_MSCHAPV2 = "eap-mschapv2"
    EAP_TLS = "eap-tls"
    EAP_GTC = "eap-gtc"


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


class Revocation(StrEnum):
    """How a peer is treated if the revocation status of its certificate is unknown."""

    STRICT = "strict"  # refused
    IFURI = "ifuri"  # refused if the certificate has a CRL or OCSP URI
    RELAXED = "relaxed"  # accepted


class TunnelOptions(Input):
    """Options that both ends of a tunnel share; a policy may set any of them."""

    ike_version: Annotated[int, Field(ge=1, le=2), STRICT_INT] = 2
    mode: Mode = Mode.TUNNEL
    ike_rekey_time: Lifetime = 14_400
    ike_reauth_time: Annotated[int, Field(ge=0, le=MAX_LIFETIME), STRICT_INT] = 0  # 0: rekey only
    ike_over_time: Annotated[int, Field(ge=0, le=MAX_LIFETIME), STRICT_INT] = 1_440
    # A random value up to this is subtracted from the rekey time, so that tunnels are not rekeyed at the same time. None:
    # charon's default, which is ike_over_time, and for a child its life time less its rekey time.
    ike_rand_time: Annotated[int, Field(ge=0, le=MAX_LIFETIME), STRICT_INT] | None = None
    child_rand_time: Annotated[int, Field(ge=0, le=MAX_LIFETIME), STRICT_INT] | None = None
    child_rand_bytes: Annotated[int, Field(ge=0), STRICT_INT] | None = None
    child_rand_packets: Annotated[int, Field(ge=0), STRICT_INT] | None = None
    child_rekey_time: Lifetime = 3_600
    child_life_time: Lifetime = 3_960
    child_rekey_bytes: Annotated[int, Field(ge=0), STRICT_INT] = 0  # 0: no limit
    child_life_bytes: Annotated[int, Field(ge=0), STRICT_INT] = 0
    child_rekey_packets: Annotated[int, Field(ge=0), STRICT_INT] = 0
    child_life_packets: Annotated[int, Field(ge=0), STRICT_INT] = 0
    dpd_delay: Annotated[int, Field(ge=0, le=3_600), STRICT_INT] = 30  # s of silence before a probe; 0: off
    dpd_timeout: Annotated[int, Field(ge=0, le=3_600), STRICT_INT] = 0  # IKEv1 only
    dpd_action: DpdAction = DpdAction.CLEAR
    mobike: StrictBool = False
    encap: StrictBool = False  # UDP encapsulation even without a NAT
    fragmentation: Fragmentation = Fragmentation.YES
    childless: Childless = Childless.ALLOW
    keyingtries: Annotated[int, Field(ge=0, le=100), STRICT_INT] = 1
    local_port: Annotated[int, Field(ge=1, le=65_535), STRICT_INT] = 500
    remote_port: Annotated[int, Field(ge=1, le=65_535), STRICT_INT] = 500
    dscp: Annotated[int, Field(ge=0, le=63), STRICT_INT] = 0
    send_cert: StrictBool = True
    send_certreq: StrictBool = True
    revocation: Revocation = Revocation.RELAXED  # of the peer's certificate
    ppk_required: StrictBool = False
    replay_window: Annotated[int, Field(ge=32, le=4_096), STRICT_INT] = 64  # packets; SP 800-77r1 requires at least 64
    tfc_padding: Annotated[int, Field(ge=0, le=1_500), STRICT_INT] = 0
    ipcomp: StrictBool = False
    inactivity: Annotated[int, Field(ge=0, le=MAX_LIFETIME), STRICT_INT] = 0
    copy_df: StrictBool = True
    copy_ecn: StrictBool = True
    copy_dscp: Annotated[str, StringConstraints(pattern="^(out|in|yes|no)$")] = "out"
    hw_offload: Annotated[str, StringConstraints(pattern="^(no|auto|yes|crypto|packet)$")] = "no"

    @model_validator(mode="after")
    def _rekeys_before_it_ends(self) -> "TunnelOptions":
        if self.child_life_time <= self.child_rekey_time:
            raise ValueError(
                "child_life_time must be greater than child_rekey_time, or the SA expires before it is rekeyed"
            )
        for unit in ("bytes", "packets"):
            rekey, life = getattr(self, f"child_rekey_{unit}"), getattr(self, f"child_life_{unit}")
            if life and rekey and life <= rekey:
                raise ValueError(f"child_life_{unit} must be greater than child_rekey_{unit}")
        return self

    @model_validator(mode="after")
    def _randomness_leaves_time(self) -> "TunnelOptions":
        for rand, of in (("ike_rand_time", "ike_rekey_time"), ("child_rand_time", "child_rekey_time")):
            if (getattr(self, rand) or 0) >= getattr(self, of):
                raise ValueError(f"{rand} must be less than {of}, or the SA is rekeyed continuously")
        for unit in ("bytes", "packets"):
            if (getattr(self, f"child_rand_{unit}") or 0) > getattr(self, f"child_rekey_{unit}"):
                raise ValueError(f"child_rand_{unit} must not exceed child_rekey_{unit}")
        return self


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


class AuthEnd(Document):
    """Authentication of one end of a tunnel."""

    method: AuthMethod = AuthMethod.PUBKEY
    identity: Identity
    public_key: PublicKey | None = None  # the raw Ed25519 key that is expected of this end
    ca: str | None = None  # PEM of the authority that this end's certificate must chain to
    secret_name: str | None = None  # which sealed secret holds the PSK or the EAP password
    eap_identity: Identity | None = None


class TunnelConfig(Document):
    """One end's view of one tunnel: `local_*` is this host.

    Whether a change affects the IKE_SA or only the CHILD_SA is decided by `warren_intent.plan`.
    """

    name: TunnelName
    policy: PolicyId
    priority: int
    peer: PeerId | None  # None: a foreign gateway without an agent
    initiator: bool
    auto_start: bool = True
    local_addrs: tuple[Endpoint, ...] = ()  # empty: any
    remote_addrs: tuple[Endpoint, ...] = ()  # empty: any; this end can only respond
    local_auth: AuthEnd
    remote_auth: AuthEnd
    local_ts: Annotated[tuple[IPNetwork, ...], Field(max_length=64)]
    remote_ts: Annotated[tuple[IPNetwork, ...], Field(max_length=64)]
    ike_proposals: Annotated[tuple[CryptoProposal, ...], Field(min_length=1, max_length=16)]
    esp_proposals: Annotated[tuple[CryptoProposal, ...], Field(min_length=1, max_length=16)]
    options: TunnelOptions = TunnelOptions()
    vips: tuple[IPAddress, ...] = ()  # virtual addresses to request; 0.0.0.0 and :: request any (road warrior)
    pools: tuple[IPNetwork, ...] = ()  # virtual addresses to assign
    ppk_id: Identity | None = None
    if_id_in: U32 = 0  # XFRM interface ids
    if_id_out: U32 = 0
    mark_in: U32 = 0
    mark_in_mask: U32 = WHOLE_MASK
    mark_out: U32 = 0
    mark_out_mask: U32 = WHOLE_MASK
    set_mark_in: U32 = 0
    set_mark_in_mask: U32 = WHOLE_MASK
    set_mark_out: U32 = 0
    set_mark_out_mask: U32 = WHOLE_MASK
