"""A TunnelConfig as the message of load-conn, as pure functions (swanctl.conf(5), and vici_config.c for what charon takes).

Every tunnel is one connection with one child. Both carry a generation in their names: connection `hub+spoke~3`, child
`hub+spoke~5`. A change of the IKE level makes a connection of a new generation next to the old one; a change of the child
level puts a child of a new generation into the connection. So the name of an SA says which configuration it came from,
and a loss of the agent's memory or a missed event changes nothing.
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.vici_codec import MAX_NAME, Message, Text, Writable, build_message
from warren_agent.errors import ConfigRefusedError
from warren_contracts.crypto import CryptoProposal
from warren_contracts.identities import explicit
from warren_contracts.tunnel import (
    WHOLE_MASK,
    AuthEnd,
    AuthMethod,
    Childless,
    Mode,
    Revocation,
    TunnelConfig,
    TunnelOptions,
)
from warren_intent.proposal_filter import carries, refused_options

SEPARATOR = "~"
# s; how many connections with one peer charon can tell apart (see ledger.py); an IKE_SA lives at most this much longer
DISTINCT_OVER_TIMES = 600
# SubjectPublicKeyInfo and PKCS #8 of Ed25519 differ in the 32 bytes of the key alone (RFC 8410, sections 4 and 7).
SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")

_MARKS = ("mark_in", "mark_out", "set_mark_in", "set_mark_out")
_AUTH_WORDS = {
    AuthMethod.PUBKEY: "pubkey",
    AuthMethod.CERTIFICATE: "pubkey",
    AuthMethod.PSK: "psk",
    AuthMethod.EAP_MSCHAPV2: "eap-mschapv2",
    AuthMethod.EAP_TLS: "eap-tls",
    AuthMethod.EAP_GTC: "eap-gtc",
}


class HandleName(NamedTuple):
    """The name of a connection or a child in charon."""

    tunnel: str
    generation: int

    def __str__(self) -> str:
        return f"{self.tunnel}{SEPARATOR}{self.generation}"


def parse_handle(name: str) -> HandleName | None:
    """The tunnel and the generation of a name in charon; None for a name that is not ours."""
    tunnel, separator, generation = name.rpartition(SEPARATOR)
    if not separator or not tunnel or not generation.isascii() or not generation.isdigit():
        return None
    return HandleName(tunnel, int(generation))


class Levels(NamedTuple):
    """A configuration's two halves, by hash: what an IKE_SA is made from, and what a CHILD_SA is made from."""

    ike: str
    child: str


def fingerprint(config: TunnelConfig, abilities: CharonAbilities) -> Levels:
    """Equal fingerprints mean equal messages but for names: then charon needs to hear nothing."""
    return Levels(_hash(_ike_level(config, 0)), _hash(_child_level(config, abilities)))


def _hash(message: Message) -> str:
    return hashlib.sha256(build_message(message)).hexdigest()[:32]


def build_connection(
    config: TunnelConfig, connection: HandleName, child: HandleName, abilities: CharonAbilities
) -> Message:
    """The message of load-conn."""
    section = _ike_level(config, connection.generation % DISTINCT_OVER_TIMES)
    section["children"] = {str(child): _child_level(config, abilities)}
    return {str(connection): section}


def _ike_level(config: TunnelConfig, offset: int) -> dict[str, Writable]:
    options = config.options
    section: dict[str, Writable] = {
        "version": str(options.ike_version),
        "proposals": _proposals(config.ike_proposals),
        "local": _auth(config.local_auth),
        "remote": _auth(config.remote_auth, remote=True) | _revocation(options),
        "rekey_time": f"{options.ike_rekey_time}s",
        "reauth_time": f"{options.ike_reauth_time}s",
        "over_time": f"{options.ike_over_time + offset}s",
        "dpd_delay": f"{options.dpd_delay}s",
        "mobike": _yes(options.mobike),
        "encap": _yes(options.encap),
        "fragmentation": options.fragmentation.value,
        "keyingtries": str(options.keyingtries),
        # Two IKE_SAs with one peer are how a change is made without a gap. `no` still heeds INITIAL_CONTACT, which a
        # peer sends after it lost its state (RFC 7296, 2.4).
        "unique": "no",
        "send_cert": "ifasked" if options.send_cert else "never",
        "send_certreq": _yes(options.send_certreq),
    }
    optional: list[tuple[str, Writable, bool]] = [
        ("local_addrs", [str(address) for address in config.local_addrs], bool(config.local_addrs)),
        ("remote_addrs", [str(address) for address in config.remote_addrs], bool(config.remote_addrs)),
        ("local_port", str(options.local_port), options.local_port != 500),
        ("remote_port", str(options.remote_port), options.remote_port != 500),
        ("childless", options.childless.value, options.childless is not Childless.ALLOW),
        ("rand_time", f"{options.ike_rand_time}s", options.ike_rand_time is not None),
        ("dscp", f"{options.dscp:06b}", options.dscp != 0),
        ("vips", [str(address) for address in config.vips], bool(config.vips)),
        ("pools", list(build_pools(config)), bool(config.pools)),
        ("ppk_id", config.ppk_id or "", config.ppk_id is not None),
        ("ppk_required", "yes", options.ppk_required),
    ]
    return section | {key: value for key, value, wanted in optional if wanted}


def _child_level(config: TunnelConfig, abilities: CharonAbilities) -> dict[str, Writable]:
    options = config.options
    section: dict[str, Writable] = {
        "mode": options.mode.value,
        "local_ts": [str(network) for network in config.local_ts],
        "remote_ts": [str(network) for network in config.remote_ts],
        "esp_proposals": _proposals(config.esp_proposals),
        "rekey_time": f"{options.child_rekey_time}s",
        "life_time": f"{options.child_life_time}s",  # always both: 5.9.8 ignores life_time where it derives rekey_time
        "start_action": "none",
        "close_action": "none",
        "dpd_action": options.dpd_action.value,
        "replay_window": str(options.replay_window),
    }
    limits = [
        (f"{edge}_{unit}", str(getattr(options, f"child_{edge}_{unit}")))
        for edge in ("rekey", "life")
        for unit in ("bytes", "packets")
    ]
    optional: list[tuple[str, Writable, bool]] = [
        *((key, value, value != "0") for key, value in limits),
        ("tfc_padding", str(options.tfc_padding), options.tfc_padding > 0),
        ("ipcomp", "yes", options.ipcomp),
        ("inactivity", f"{options.inactivity}s", options.inactivity > 0),
        ("copy_df", "no", not options.copy_df),
        ("copy_ecn", "no", not options.copy_ecn),
        ("copy_dscp", options.copy_dscp, options.copy_dscp != "out"),
        ("hw_offload", _offload(options.hw_offload, abilities), options.hw_offload != "no"),
        ("rand_time", f"{options.child_rand_time}s", options.child_rand_time is not None),
        ("rand_bytes", str(options.child_rand_bytes), options.child_rand_bytes is not None),
        ("rand_packets", str(options.child_rand_packets), options.child_rand_packets is not None),
        ("if_id_in", str(config.if_id_in), config.if_id_in > 0),
        ("if_id_out", str(config.if_id_out), config.if_id_out > 0),
        *((key, _mark(config, key), getattr(config, key) > 0) for key in _MARKS),
    ]
    return section | {key: value for key, value, wanted in optional if wanted}


def _mark(config: TunnelConfig, key: str) -> str:
    mark, mask = getattr(config, key), getattr(config, f"{key}_mask")
    return str(mark) if mask == WHOLE_MASK else f"{mark}/{mask:#010x}"


def _auth(end: AuthEnd, remote: bool = False) -> dict[str, Writable]:
    section: dict[str, Writable] = {"auth": _AUTH_WORDS[end.method], "id": explicit(end.identity)}
    if end.public_key is not None and end.method is AuthMethod.PUBKEY:
        section["pubkeys"] = [build_public_key(base64.b64decode(end.public_key))]
    if end.ca is not None and remote:
        section["cacerts"] = [end.ca]
    if end.eap_identity is not None:
        section["eap_id"] = end.eap_identity
    return section


def _revocation(options: TunnelOptions) -> dict[str, Writable]:
    return {} if options.revocation is Revocation.RELAXED else {"revocation": options.revocation.value}


def _proposals(proposals: Iterable[CryptoProposal]) -> list[Text]:
    return [proposal.keywords for proposal in proposals]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _offload(word: str, abilities: CharonAbilities) -> str:
    """`yes` became `crypto` in 5.9.10; both mean the same."""
    same = {"yes": "crypto", "crypto": "yes"}
    known = abilities.knows("hw_offload-crypto")
    return same[word] if (word == "yes" and known) or (word == "crypto" and not known) else word


def build_pools(config: TunnelConfig) -> dict[str, Message]:
    """The messages of load-pool for a tunnel that hands out virtual addresses, by the pool's name."""
    # Named by their addresses: another network is another pool, and the connection that names it another connection.
    return {f"{config.name}.{str(network).replace('/', '_')}": {"addrs": str(network)} for network in config.pools}


def build_public_key(key: bytes) -> bytes:
    """The SubjectPublicKeyInfo (DER) of a raw Ed25519 public key of 32 bytes."""
    return SPKI_PREFIX + key


def build_private_key(seed: bytes) -> bytes:
    """The PKCS #8 (DER) of an Ed25519 private key given by its seed of 32 bytes."""
    return PKCS8_PREFIX + seed


def check(config: TunnelConfig, abilities: CharonAbilities) -> None:
    """ConfigRefusedError, naming the field, for what this charon cannot express."""
    problems = [*_check_version(config, abilities), *_check_kernel(config, abilities), *_check_rules(config)]
    for field in ("ike_proposals", "esp_proposals"):
        for proposal in getattr(config, field):
            if missing := abilities.missing(proposal):
                problems.append(f"{field}: this charon has no {', '.join(missing)}")
    if problems:
        raise ConfigRefusedError(f"{config.name}: " + "; ".join(problems))


def _check_version(config: TunnelConfig, abilities: CharonAbilities) -> Iterable[str]:
    options = config.options
    additional = any(p.additional_key_exchanges for p in (*config.ike_proposals, *config.esp_proposals))
    needs = [
        ("options.childless", "childless-prefer", options.childless is Childless.PREFER),
        ("options.hw_offload", "hw_offload-packet", options.hw_offload == "packet"),
        ("ike_proposals", "additional-key-exchanges", additional),
    ]
    for field, word, needed in needs:
        if needed and abilities.version and not abilities.knows(word):
            yield f"{field}: strongSwan {abilities.version} is too old for {word}"


def _check_kernel(config: TunnelConfig, abilities: CharonAbilities) -> Iterable[str]:
    options = config.options
    uses = [
        ("options.mode", "transport", options.mode is Mode.TRANSPORT),
        ("options.mode", "beet", options.mode is Mode.BEET),
        ("esp_proposals", "esn", any(proposal.esn for proposal in config.esp_proposals)),
        ("if_id_in", "if_id", bool(config.if_id_in or config.if_id_out)),
        ("mark_in", "mark", any(getattr(config, key) for key in _MARKS)),
        ("options.hw_offload", "hw_offload", options.hw_offload not in ("no", "auto")),
    ]
    for field, feature, used in uses:
        if used and abilities.version and feature not in abilities.features:
            yield f"{field}: kernel-libipsec cannot do {feature}"


def _check_rules(config: TunnelConfig) -> Iterable[str]:
    for proposal in config.ike_proposals:
        if proposal.is_aead and proposal.prf is None:
            yield f"ike_proposals: {proposal} needs a prf, such as prfsha256, next to its AEAD"
        if proposal.key_exchange is None:
            yield f"ike_proposals: {proposal} names no key exchange"
    for side in ("local_auth", "remote_auth"):
        end: AuthEnd = getattr(config, side)
        if end.method is AuthMethod.PUBKEY and end.public_key is None:
            yield f"{side}.public_key: a raw public key is needed"
        elif end.method is not AuthMethod.PUBKEY:
            yield f"{side}.method: the agent holds no secret or certificate for {end.method.value}"
        for field in ("ca", "secret_name", "eap_identity"):
            if end.method is AuthMethod.PUBKEY and getattr(end, field) is not None:
                yield f"{side}.{field}: raw public keys use none"
    if not config.local_ts or not config.remote_ts:
        yield "local_ts, remote_ts: at least one network each"
    if config.ppk_id is not None:
        yield "ppk_id: the agent holds no PPK, and the tunnel would come up without it"
    if not carries(config.options, config):
        yield f"options.mode: {config.options.mode.value} is between two single hosts, not between networks"
    for option, message in refused_options(config.options):
        yield f"options.{option}: {message}"
    if len(str(HandleName(config.name, 10**9))) > MAX_NAME:
        yield "name: too long"
