"""Filter proposals and options by the capabilities of both ends' drivers.

A driver refuses a whole tunnel for one unknown proposal, so proposals that one end does not support are removed at both ends
(each sees both records). A peer that has not reported capabilities is assumed to support every algorithm, since unsupported
ones are removed as soon as it reports; but no option, since an option has no fallback.
"""

from collections.abc import Iterable, Iterator

from warren_contracts.addresses import Endpoint
from warren_contracts.auth import EndAuthPolicy, RawKeyPolicy
from warren_contracts.ipsec import (
    MIN_LIFETIME,
    Childless,
    ChildOptions,
    ChildSettings,
    DpdAction,
    IkeOptions,
    Mode,
    Xfrm,
)
from warren_contracts.peers import DriverCapabilities
from warren_contracts.policy import ChildSpec, TunnelOptions
from warren_contracts.proposals import NONE, Algorithms
from warren_contracts.selectors import ANY_PORTS, AddressRange, TrafficSelector
from warren_contracts.tunnel import Tunnel

Proposals = tuple[Algorithms, ...]
_COMMON = frozenset({"mobike"})  # supported by every driver
COMMON_REPLAY_WINDOW = 1_024  # packets; a larger one not every driver has


def narrow(proposal: Algorithms, words: tuple[str, ...], features: tuple[str, ...]) -> Algorithms | None:
    """The part of a proposal that a driver with these algorithms and features (empty: not reported) supports.

    Of several algorithms of one type the supported ones remain; None if a type has none left.
    """
    known = frozenset(words)

    def left(algorithms: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(it for it in algorithms if it in known or it == NONE) if known else algorithms

    additional = tuple(left(them) for them in proposal.additional_key_exchanges)
    if features and "additional-key-exchanges" not in features:
        additional = () if all(NONE in them for them in additional) else ((),)
    esn = proposal.esn
    if features and "esn" not in features:
        esn = tuple(word for word in esn if word == "noesn")
    parts = (left(proposal.encryption), left(proposal.integrity), left(proposal.prf), left(proposal.key_exchange))
    stated = (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)
    if any(before and not after for before, after in zip((*stated, proposal.esn), (*parts, esn), strict=True)):
        return None
    if not all(additional):
        return None
    return Algorithms(*parts, additional, esn)


def can_express(proposal: Algorithms, words: tuple[str, ...], features: tuple[str, ...]) -> bool:
    """Whether a driver with these algorithms and features supports every algorithm of a proposal."""
    return narrow(proposal, words, features) == proposal


class ProposalFilter:
    """The proposals that all ends of a tunnel support. Results are cached, since most peers of a fleet have the same capabilities."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[str, ...], tuple[str, ...]], tuple[Proposals, Proposals]] = {}

    def common(self, ike: Proposals, esp: Proposals, ends: Iterable[DriverCapabilities]) -> tuple[Proposals, Proposals]:
        """The IKE and the ESP proposals that every end supports, in order."""
        for end in ends:
            ike = self._left(ike, end.ike, end.features)
            esp = self._left(esp, end.esp, end.features)
        return ike, esp

    def _left(self, proposals: Proposals, words: tuple[str, ...], features: tuple[str, ...]) -> Proposals:
        if not words and not features:
            return proposals
        # The entry keeps `proposals` alive, so its id stays unique.
        key = (id(proposals), words, features)
        if key not in self._known:
            narrowed = tuple(it for proposal in proposals if (it := narrow(proposal, words, features)) is not None)
            self._known[key] = proposals, proposals if narrowed == proposals else narrowed
        return self._known[key][1]


def refused_auth(auth: EndAuthPolicy) -> str:
    """Why peers cannot be authenticated in this way yet; empty if they can."""
    if isinstance(auth, RawKeyPolicy):
        return ""
    what = "certificates are" if auth.kind == "certificate" else "secrets are"
    return f"{auth.kind} is not supported yet, since {what} not distributed to peers: use raw-key"


def refused_options(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The options that no driver applies, each with the reason and the remedy. An option must not be ignored silently."""
    yield from ((f"ike/{option}", message) for option, message in refused_ike_options(options.ike))
    yield from ((f"child/{option}", message) for option, message in refused_child_options(options.child))


def refused_ike_options(options: IkeOptions) -> Iterator[tuple[str, str]]:
    """Those of the IKE_SA."""
    rules = (
        ("version", options.version == 1, "Ed25519 keys require IKEv2 (RFC 8420): set version to 2"),
        (
            "ppk_required", options.ppk_required,
            "PPKs are not supported yet, so the tunnel would be established without one: set ppk_required to false",
        ),
        (
            "reauth_time", 0 < options.reauth_time < MIN_LIFETIME,
            f"{options.reauth_time} s is too short: use 0 (never) or at least {MIN_LIFETIME} s",
        ),
    )  # fmt: skip
    return ((option, message) for option, refused, message in rules if refused)


def refused_child_options(options: ChildOptions) -> Iterator[tuple[str, str]]:
    """Those of a CHILD_SA."""
    if options.dpd_action is DpdAction.TRAP:
        yield "dpd_action", "trap is not supported, since the agent starts tunnels: use clear or restart"


_NO_XFRM = Xfrm()


def features_of_xfrm(xfrm: Xfrm | None) -> Iterator[tuple[str, str]]:
    """The XFRM fields of an end, each with the driver feature that it requires."""
    given = xfrm or _NO_XFRM
    marks = given.mark_in or given.mark_out or given.set_mark_in or given.set_mark_out
    needs = (("if_id_in", "if_id", given.if_id_in or given.if_id_out), ("mark_in", "mark", marks))
    return ((field, feature) for field, feature, needed in needs if needed)


def carries(tunnel: Tunnel) -> bool:
    """Whether the mode of every CHILD_SA can carry its selectors: all modes but tunnel mode are between two single hosts
    (RFC 7296, 1.3.1), in transport mode the ends themselves."""
    return all(
        is_one_host(child.mode, selectors, endpoints)
        for child in tunnel.link.children
        for selectors, endpoints in (
            (child.local_ts, tunnel.local_endpoints), (child.remote_ts, tunnel.remote_endpoints)
        )
    )  # fmt: skip


def is_one_host(mode: Mode, selectors: tuple[TrafficSelector, ...], endpoints: tuple[Endpoint, ...]) -> bool:
    """Whether the mode can carry this side of a CHILD_SA."""
    if mode is Mode.TUNNEL:
        return True
    hosts = {selector.addresses for selector in selectors}
    if len(hosts) != 1:
        return False
    (host,) = hosts
    if host is None:
        return True  # dynamic: the endpoint itself
    if isinstance(host, AddressRange) or host.num_addresses != 1:
        return False
    known = [endpoint.host for endpoint in endpoints if not isinstance(endpoint.host, str)]
    own = host.network_address in known or not known
    return mode is Mode.BEET or own


def foreign_host(mode: Mode, selectors: tuple[TrafficSelector, ...], endpoints: tuple[Endpoint, ...]) -> str | None:
    """The single host of this side that is none of its endpoints, if that alone keeps transport mode from it."""
    hosts = {selector.addresses for selector in selectors}
    if mode is not Mode.TRANSPORT or len(hosts) != 1 or is_one_host(mode, selectors, endpoints):
        return None
    (host,) = hosts
    if host is None or isinstance(host, AddressRange) or host.num_addresses != 1:
        return None
    return str(host.network_address)


def can_do(features: tuple[str, ...], feature: str) -> bool:
    """Whether a driver with these features (empty: not reported) accepts an option that needs `feature`."""
    return feature in features or (not features and feature in _COMMON)


def features_of(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The options that not every driver supports, each with the driver feature that it requires."""
    ike = (
        ("mobike", "mobike", options.ike.mobike),
        ("childless", "childless-prefer", options.ike.childless is Childless.PREFER),
        ("childless", "childless", options.ike.childless is Childless.FORCE),
        ("dscp", "dscp", options.ike.dscp != 0),
        ("rand_time", "rand", options.ike.rand_time is not None),
    )
    yield from ((f"ike/{option}", feature) for option, feature, needed in ike if needed)
    yield from ((f"child/{option}", feature) for option, feature in features_of_child(options.child))


def features_of_child(options: ChildOptions) -> Iterator[tuple[str, str]]:
    """Those of a CHILD_SA."""
    needs = (
        ("mode", options.mode.value, options.mode is not Mode.TUNNEL),
        ("hw_offload", "hw_offload", options.hw_offload not in ("no", "auto")),
        ("hw_offload", "hw_offload-packet", options.hw_offload == "packet"),
        ("replay_window", "replay-window", options.replay_window > COMMON_REPLAY_WINDOW),
        ("tfc_padding", "tfc", options.tfc_padding != 0),
        ("ipcomp", "ipcomp", options.ipcomp),
        ("inactivity", "inactivity", options.inactivity != 0),
        ("copy_df", "copy", not options.copy_df),
        ("copy_ecn", "copy", not options.copy_ecn),
        ("copy_dscp", "copy", options.copy_dscp != "out"),
        ("rand_time", "rand", options.rand_time is not None),
        ("rand_bytes", "rand", options.rand_bytes is not None),
        ("rand_packets", "rand", options.rand_packets is not None),
    )
    return ((option, feature) for option, feature, needed in needs if needed)


def needs_selectors(spec: ChildSpec) -> bool:
    """Whether a child requires selectors besides networks."""
    return bool(spec.protocol) or not all(map(_is_plain, (*spec.ts[0], *spec.ts[1])))


def needs_dynamic_selectors(child: ChildSettings) -> bool:
    """Whether a side of a child is the end's own or virtual address, and more than that or less than all of its traffic."""
    return any(
        selector.addresses is None and (len(side) > 1 or not _is_plain(selector))
        for side in (child.local_ts, child.remote_ts)
        for selector in side
    )


def _is_plain(selector: TrafficSelector) -> bool:
    return selector.ports == ANY_PORTS and not selector.protocol and not isinstance(selector.addresses, AddressRange)
