"""A tunnel as the message of load-conn, as pure functions (swanctl.conf(5), and vici_config.c for what charon takes).

Every tunnel is one connection with one or more children. All carry a generation in their names: connection `hub+spoke~3`,
child `hub+spoke.net~5`. A change of the IKE level makes a connection of a new generation next to the old one; a change of a
child puts a child of a new generation into the connection. So the name of an SA says which configuration it came from,
and a loss of the agent's memory or a missed event changes nothing.
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.vici_codec import (
    Message,
    Section,
    Text,
    Writable,
    build_message,
    subsections,
    texts,
)
from warren_agent.errors import ConfigRefusedError
from warren_contracts.addresses import IKE_PORT, Endpoint, common_port
from warren_contracts.auth import EndAuth, RawKeyAuth
from warren_contracts.identities import explicit
from warren_contracts.ipsec import (
    WHOLE_MASK,
    Childless,
    ChildSettings,
    Xfrm,
)
from warren_contracts.proposals import Algorithms
from warren_contracts.selectors import ANY_PORTS, DYNAMIC, TrafficSelector, format_ports
from warren_contracts.tunnel import Tunnel

SEPARATOR = "~"
POOL_PREFIX = "warren."
# A group of the local authentication, which charon lists and never uses or sends: the mark of a connection that an agent
# loaded. A name alone says nothing, since anybody may call a connection `berlin~2`.
MARKER = "warren"
CHILD_SEPARATOR = "."  # a tunnel name contains none
# s; how many generations charon can distinguish (see ledger.py); an SA lives at most this much longer
DISTINCT_LIFETIMES = 600
# SubjectPublicKeyInfo and PKCS #8 of Ed25519 differ in the 32 bytes of the key alone (RFC 8410, sections 4 and 7).
SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")

_MARKS = ("mark_in", "mark_out", "set_mark_in", "set_mark_out")


class HandleName(NamedTuple):
    """The name of a connection in charon, or with `child` of one of its children."""

    tunnel: str
    generation: int
    child: str = ""

    def __str__(self) -> str:
        name = f"{self.tunnel}{CHILD_SEPARATOR}{self.child}" if self.child else self.tunnel
        return f"{name}{SEPARATOR}{self.generation}"


def parse_handle(name: str) -> HandleName | None:
    """The tunnel, the child and the generation of a name in charon; None for a name that is not ours."""
    full, separator, generation = name.rpartition(SEPARATOR)
    if not separator or not full or not generation.isascii() or not generation.isdigit():
        return None
    tunnel, _, child = full.partition(CHILD_SEPARATOR)
    return HandleName(tunnel, int(generation), child)


def is_marked(listed: Section) -> bool:
    """Whether a connection, as list-conns lists it, was loaded by an agent."""
    return MARKER in groups_of(listed)


def groups_of(listed: Section) -> set[str]:
    """The groups of a connection's local authentication, as list-conns lists them."""
    ends = (section for name, section in subsections(listed).items() if name.startswith("local-"))
    return {group for end in ends for group in texts(end, "groups")}


def level_mark(ike: str) -> str:
    """A second group: it names the IKE level, by its fingerprint, of which list-conns omits proposals, MOBIKE and more."""
    return f"{MARKER}-{ike[:16]}"


class Levels(NamedTuple):
    """A configuration's parts, by hash: what an IKE_SA is made from, and what each CHILD_SA is made from."""

    ike: str
    children: dict[str, str]


def fingerprint(config: Tunnel, abilities: CharonAbilities) -> Levels:
    """Equal fingerprints mean equal messages but for names: then nothing is sent to charon."""
    link = config.link
    children = {child.name: _hash(_child_level(child, link.xfrm, abilities, 0)) for child in link.children}
    return Levels(_hash(_ike_level(config, 0)), children)


def _hash(message: Message) -> str:
    return hashlib.sha256(build_message(message)).hexdigest()[:32]


def build_connection(
    config: Tunnel, connection: HandleName, children: Iterable[HandleName], abilities: CharonAbilities
) -> Message:
    """The message of load-conn; `children` are the names of all of the tunnel's children."""
    section = _ike_level(config, offset(connection.generation))
    section["local"] = {**_auth(config.link.local_auth), "groups": [MARKER, level_mark(_hash(_ike_level(config, 0)))]}
    settings = {child.name: child for child in config.link.children}
    section["children"] = {
        str(it): _child_level(settings[it.child], config.link.xfrm, abilities, offset(it.generation)) for it in children
    }
    return {str(connection): section}


def offset(generation: int) -> int:
    """The seconds by which the lifetime of a generation is longer than configured."""
    return generation % DISTINCT_LIFETIMES


def _ike_level(config: Tunnel, longer_s: int) -> dict[str, Writable]:
    ike = config.link.ike
    ports = common_port(config.local_endpoints), common_port(config.remote_endpoints)
    section: dict[str, Writable] = {
        "version": str(ike.version),
        "proposals": _proposals(ike.proposals),
        "local": {**_auth(config.link.local_auth), "groups": [MARKER]},
        "remote": _auth(config.link.remote_auth),
        "rekey_time": f"{ike.rekey_time}s",
        "reauth_time": f"{ike.reauth_time}s",
        "over_time": f"{(ike.over_time or 0) + longer_s}s",
        "dpd_delay": f"{ike.dpd_delay}s",
        "mobike": _yes(ike.mobike),
        "encap": _yes(ike.encap),
        "fragmentation": ike.fragmentation.value,
        "keyingtries": str(ike.keyingtries),
        # Two IKE_SAs with one peer are how a change is made without a gap. `no` still obeys INITIAL_CONTACT, which a
        # peer sends after it lost its state (RFC 7296, 2.4).
        "unique": "no",
        "send_cert": "ifasked" if ike.send_cert else "never",
        "send_certreq": _yes(ike.send_certreq),
    }
    optional: list[tuple[str, Writable, bool]] = [
        ("local_addrs", _hosts(config.local_endpoints), bool(config.local_endpoints)),
        ("remote_addrs", _hosts(config.remote_endpoints), bool(config.remote_endpoints)),
        ("local_port", str(ports[0]), ports[0] != IKE_PORT),
        ("remote_port", str(ports[1]), ports[1] != IKE_PORT),
        ("childless", ike.childless.value, ike.childless is not Childless.ALLOW),
        ("rand_time", f"{ike.rand_time}s", ike.rand_time is not None),
        ("dscp", f"{ike.dscp:06b}", ike.dscp != 0),
        ("vips", [str(address) for address in ike.vips], bool(ike.vips)),
        ("pools", list(build_pools(config)), bool(ike.pools)),
        ("ppk_id", ike.ppk_id or "", ike.ppk_id is not None),
        ("ppk_required", "yes", ike.ppk_required),
    ]
    return section | {key: value for key, value, desired in optional if desired}


def _hosts(endpoints: Iterable[Endpoint]) -> list[Text]:
    return [str(endpoint.host) for endpoint in endpoints]


def _child_level(child: ChildSettings, xfrm: Xfrm, abilities: CharonAbilities, longer_s: int) -> dict[str, Writable]:
    rekey_time, life_time = child.rekey_time or 0, child.life_time or 0
    section: dict[str, Writable] = {
        "mode": child.mode.value,
        "local_ts": [build_selector(selector) for selector in child.local_ts],
        "remote_ts": [build_selector(selector) for selector in child.remote_ts],
        "esp_proposals": _proposals(child.proposals),
        "rekey_time": f"{child.rekey_time}s",
        # Always all three: 5.9.8 ignores life_time where it derives rekey_time, and derives rand_time from their difference.
        "life_time": f"{life_time + longer_s}s",
        "rand_time": f"{life_time - rekey_time if child.rand_time is None else child.rand_time}s",
        "start_action": "none",
        "close_action": "none",
        "dpd_action": child.dpd_action.value,
        "replay_window": str(child.replay_window),
    }
    limits = [
        (f"{edge}_{unit}", str(getattr(child, f"{edge}_{unit}")))
        for edge in ("rekey", "life")
        for unit in ("bytes", "packets")
    ]
    optional: list[tuple[str, Writable, bool]] = [
        *((key, value, value != "0") for key, value in limits),
        ("tfc_padding", str(child.tfc_padding), child.tfc_padding > 0),
        ("ipcomp", "yes", child.ipcomp),
        ("inactivity", f"{child.inactivity}s", child.inactivity > 0),
        ("copy_df", "no", not child.copy_df),
        ("copy_ecn", "no", not child.copy_ecn),
        ("copy_dscp", child.copy_dscp, child.copy_dscp != "out"),
        ("hw_offload", _offload(child.hw_offload, abilities), child.hw_offload != "no"),
        ("rand_bytes", str(child.rand_bytes), child.rand_bytes is not None),
        ("rand_packets", str(child.rand_packets), child.rand_packets is not None),
        ("if_id_in", str(xfrm.if_id_in), xfrm.if_id_in > 0),
        ("if_id_out", str(xfrm.if_id_out), xfrm.if_id_out > 0),
        *((key, _mark(xfrm, key), getattr(xfrm, key) > 0) for key in _MARKS),
    ]
    return section | {key: value for key, value, desired in optional if desired}


def build_selector(selector: TrafficSelector) -> str:
    """A selector as charon parses it; the protocol by number, since a minimal host has no /etc/protocols."""
    addresses = DYNAMIC if selector.addresses is None else str(selector.addresses)
    if not selector.protocol and selector.ports == ANY_PORTS:
        return addresses
    ports = "" if selector.ports == ANY_PORTS else f"/{format_ports(selector.ports)}"
    return f"{addresses}[{selector.protocol}{ports}]"


def _mark(xfrm: Xfrm, key: str) -> str:
    mark, mask = getattr(xfrm, key), getattr(xfrm, f"{key}_mask")
    return str(mark) if mask == WHOLE_MASK else f"{mark}/{mask:#010x}"


def _auth(end: EndAuth) -> dict[str, Writable]:
    if not isinstance(end, RawKeyAuth):
        raise ConfigRefusedError(f"the agent holds no secret or certificate for {end.kind}")
    public_key = build_public_key(base64.b64decode(end.public_key))
    return {"auth": "pubkey", "id": explicit(end.identity), "pubkeys": [public_key]}


def _proposals(proposals: Iterable[Algorithms]) -> list[Text]:
    return [proposal.keywords for proposal in proposals]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _offload(word: str, abilities: CharonAbilities) -> str:
    """`yes` became `crypto` in 5.9.10; both mean the same."""
    same = {"yes": "crypto", "crypto": "yes"}
    known = abilities.knows("hw_offload-crypto")
    return same[word] if (word == "yes" and known) or (word == "crypto" and not known) else word


def build_pools(config: Tunnel) -> dict[str, Message]:
    """The messages of load-pool for a tunnel that assigns virtual addresses, by the pool's name."""
    # Named by their addresses, so that all tunnels that assign from one network share one pool and its leases.
    return {
        f"{POOL_PREFIX}{str(network).replace('/', '_')}": {"addrs": str(network)} for network in config.link.ike.pools
    }


def build_public_key(key: bytes) -> bytes:
    """The SubjectPublicKeyInfo (DER) of a raw Ed25519 public key of 32 bytes."""
    return SPKI_PREFIX + key


def build_private_key(seed: bytes) -> bytes:
    """The PKCS #8 (DER) of an Ed25519 private key given by its seed of 32 bytes."""
    return PKCS8_PREFIX + seed
