"""What this charon cannot express, found before anything is sent to it."""

from collections.abc import Iterable

from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.plugins import plugins_for
from warren_agent.drivers.strongswan.vici_codec import MAX_NAME
from warren_agent.errors import ConfigRefusedError
from warren_contracts.addresses import common_port
from warren_contracts.auth import RawKeyAuth
from warren_contracts.ipsec import DEFAULT_CHILD, Childless, ChildSettings, Mode
from warren_contracts.proposals import Algorithms
from warren_contracts.tunnel import Tunnel
from warren_intent.proposal_filter import is_one_host, refused_child_options, refused_ike_options

_MARKS = ("mark_in", "mark_out", "set_mark_in", "set_mark_out")


def check(config: Tunnel, abilities: CharonAbilities) -> None:
    """Check one configuration against one charon.

    Raises:
        ConfigRefusedError: names the field, in a policy's terms, and the reason.
    """
    problems = [
        *_check_version(config, abilities),
        *_check_kernel(config, abilities),
        *_check_ike(config),
        *(problem for child in config.link.children for problem in _check_child(config, child)),
        *_check_algorithms(config, abilities),
    ]
    if problems:
        raise ConfigRefusedError(f"{config.name}: " + "; ".join(problems))


def _proposals(config: Tunnel) -> Iterable[tuple[str, Algorithms]]:
    yield from (("crypto.ike", proposal) for proposal in config.link.ike.proposals)
    for child in config.link.children:
        yield from (("crypto.esp", proposal) for proposal in child.proposals)


def _child_field(child: ChildSettings, option: str) -> str:
    return f"options.child.{option}" if child.name == DEFAULT_CHILD else f"children.{child.name}.{option}"


def _check_algorithms(config: Tunnel, abilities: CharonAbilities) -> Iterable[str]:
    for field, proposal in _proposals(config):
        if missing := abilities.missing(proposal):
            yield f"{field}: this charon has no {', '.join(_with_plugin(word) for word in missing)}"


def _with_plugin(word: str) -> str:
    plugins = plugins_for(word)
    return f"{word} (plugin {plugins})" if plugins else word


def _check_version(config: Tunnel, abilities: CharonAbilities) -> Iterable[str]:
    ike = config.link.ike
    additional = any(proposal.additional_key_exchanges for _, proposal in _proposals(config))
    needs = [
        ("options.ike.childless", "childless-prefer", ike.childless is Childless.PREFER),
        ("crypto", "additional-key-exchanges", additional),
        *(
            (_child_field(child, "hw_offload"), "hw_offload-packet", child.hw_offload == "packet")
            for child in config.link.children
        ),
    ]
    for field, word, needed in needs:
        if needed and abilities.version and not abilities.knows(word):
            yield f"{field}: strongSwan {abilities.version} is too old for {word}"


def _check_kernel(config: Tunnel, abilities: CharonAbilities) -> Iterable[str]:
    xfrm = config.link.xfrm
    uses = [
        ("xfrm.if_id_in", "if_id", bool(xfrm.if_id_in or xfrm.if_id_out)),
        ("xfrm.mark_in", "mark", any(getattr(xfrm, key) for key in _MARKS)),
    ]
    for child in config.link.children:
        uses += [
            (_child_field(child, "mode"), "transport", child.mode is Mode.TRANSPORT),
            (_child_field(child, "mode"), "beet", child.mode is Mode.BEET),
            ("crypto.esp", "esn", any("esn" in proposal.esn for proposal in child.proposals)),
            (_child_field(child, "hw_offload"), "hw_offload", child.hw_offload not in ("no", "auto")),
        ]
    for field, feature, used in uses:
        if used and abilities.version and feature not in abilities.features:
            yield f"{field}: kernel-libipsec does not support {feature}"


def _check_ike(config: Tunnel) -> Iterable[str]:
    ike = config.link.ike
    for proposal in ike.proposals:
        if proposal.is_aead and not proposal.prf:
            yield f"crypto.ike: {proposal} requires a PRF, such as prfsha256, next to its AEAD"
        if not proposal.key_exchange:
            yield f"crypto.ike: {proposal} has no key exchange"
    for side, end in (("local_auth", config.link.local_auth), ("remote_auth", config.link.remote_auth)):
        if not isinstance(end, RawKeyAuth):
            yield f"{side}: the agent holds no secret or certificate for {end.kind}"
    if ike.ppk_id is not None:
        yield "ppk_id: the agent holds no PPK, and the tunnel would come up without it"
    for option, message in refused_ike_options(ike):
        yield f"options.ike.{option}: {message}"
    for field, endpoints in (
        ("local_endpoints", config.local_endpoints),
        ("remote_endpoints", config.remote_endpoints),
    ):
        try:
            common_port(endpoints)
        except ValueError as error:
            yield f"{field}: {error}"


def _check_child(config: Tunnel, child: ChildSettings) -> Iterable[str]:
    sides = ((child.local_ts, config.local_endpoints), (child.remote_ts, config.remote_endpoints))
    if not all(is_one_host(child.mode, selectors, endpoints) for selectors, endpoints in sides):
        yield f"{_child_field(child, 'mode')}: {child.mode.value} is between two single hosts, not between networks"
    if not child.local_ts or not child.remote_ts:
        yield f"children.{child.name}: at least one traffic selector at each end is required"
    for option, message in refused_child_options(child):
        yield f"{_child_field(child, option)}: {message}"
    if len(str(HandleName(config.name, 10**9, child.name))) > MAX_NAME:
        yield "name: too long"
