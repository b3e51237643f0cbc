"""Checks of one derived tunnel: its selectors, its mode, and what the drivers of its ends support."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from warren_contracts.ipsec import ChildSettings, Mode
from warren_contracts.names import PeerId
from warren_contracts.policy import ChildSpec, HubSpoke, Policy, TunnelEnd
from warren_contracts.proposals import Algorithms
from warren_contracts.selectors import networks_of
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate
from warren_intent.derivation import IPSEC
from warren_intent.findings import Code, Collector, Severity
from warren_intent.fleet import Fleet
from warren_intent.overlaps import children_overlap, overlap
from warren_intent.proposal_filter import (
    can_do,
    can_express,
    features_of,
    features_of_child,
    features_of_xfrm,
    foreign_host,
    is_one_host,
    needs_dynamic_selectors,
    needs_selectors,
)

_Requesting = tuple[str, str]  # policy and path: its candidates have the same options, children and proposals


class PolicyReport:
    """Findings by policy: fields are relative to the policy."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.found = Collector()
        self._where = {policy.id: f"policies/{index}" for index, policy in reversed(list(enumerate(policies)))}

    def add(
        self, code: Code, policy: Policy, field: str, message: str, subject: str = "",
        severity: Severity = Severity.ERROR, *, index: int | None = None,
    ) -> None:  # fmt: skip
        """Add a finding; `{}` in the message stands for the subjects, so that equal findings are merged."""
        where = self._where[policy.id] if index is None else f"policies/{index}"
        self.found.add(code, severity, policy.id, f"{where}/{field}".rstrip("/"), message, subject)


class TunnelChecks:
    """Check derived tunnels one by one; `report_unsupported` reports what was collected over all of them."""

    def __init__(self, fleet: Fleet, policies: Sequence[Policy], report: PolicyReport) -> None:
        self._fleet = fleet
        self._by_id = {policy.id: policy for policy in reversed(policies)}
        self._report = report
        self._unable: dict[tuple[str, str, str], dict[PeerId, bool]] = {}
        self._needs: dict[_Requesting, tuple[tuple[str, str], ...]] = {}
        self._lacking: dict[tuple[_Requesting, tuple[str, ...]], tuple[tuple[str, str], ...]] = {}
        self._stated: dict[_Requesting, tuple[tuple[str, str, tuple[Algorithms, ...]], ...]] = {}

    def check(self, candidate: Candidate, tunnel: Tunnel) -> None:
        """Run all checks of one tunnel, seen from one of its ends."""
        self._addresses(candidate, tunnel)
        self._selectors(candidate, tunnel)
        self._children(candidate, tunnel)
        for spec, child in zip(candidate.children, tunnel.link.children, strict=True):
            if child.mode is not Mode.TUNNEL:
                self._mode(candidate, tunnel, spec, child)
        for peer in candidate.peers:
            self._capabilities(candidate, tunnel, peer)
            self._proposals(candidate, tunnel, peer)

    def check_pools(self, policy: Policy) -> None:
        """Check the virtual addresses of a hub-spoke topology."""
        topology = policy.topology
        if not isinstance(topology, HubSpoke) or not topology.pools:
            return
        hubs = self._fleet.members.of(topology.hubs)
        if len(hubs) > 1:
            message = (
                f"{len(hubs)} hubs would assign the same addresses: use one policy, with pools of its own, for each hub"
            )
            self._report.add(Code.OVERLAP, policy, "topology/pools", message)
        for peer, record in self._fleet.records.items():
            for index, pool in enumerate(topology.pools):
                if peer not in hubs and overlap((pool,), record.subnets):
                    message = f"{pool} overlaps with the subnets of {{}}: use addresses of their own"
                    self._report.add(Code.OVERLAP, policy, f"topology/pools/{index}", message, peer, Severity.WARNING)

    def report_unsupported(self) -> None:
        """Report unsupported options: a warning if only one peer lacks it, since only that peer's driver refuses the tunnel.

        Where it is not known yet what a peer's driver supports, that is a warning, too: the driver refuses what it does not support.
        """
        for (policy, field, feature), peers in self._unable.items():
            lacking = sum(peers.values())
            for peer, reported in peers.items():
                severity = Severity.ERROR if reported and lacking > 1 else Severity.WARNING
                message = f"{{}}: {feature} is not supported: change the option, or exclude these peers"
                if not reported:
                    message = f"{{}}: support for {feature} is unknown until its IPsec daemon has answered"
                self._report.add(Code.UNSUPPORTED, self._by_id[policy], field, message, peer, severity)

    def _addresses(self, candidate: Candidate, tunnel: Tunnel) -> None:
        """Report an address of both ends: a gateway would call itself."""
        common = [endpoint for endpoint in tunnel.remote_endpoints if endpoint in tunnel.local_endpoints]
        if not common:
            return
        stated = candidate.first.addresses or candidate.second.addresses
        message = f"{{}}: {', '.join(map(str, common))} is an address of both ends: remove it from one end"
        severity = Severity.ERROR if stated else Severity.WARNING
        self._report.add(Code.NO_ADDRESS, candidate.policy, candidate.path, message, candidate.name, severity)

    def _selectors(self, candidate: Candidate, tunnel: Tunnel) -> None:
        given = candidate.first.subnets and candidate.second.subnets
        severity = Severity.ERROR if given else Severity.WARNING
        local = [net for child in tunnel.link.children for net in networks_of(child.local_ts)]
        remote = [net for child in tunnel.link.children for net in networks_of(child.remote_ts)]
        if local and remote and {net.version for net in local}.isdisjoint(net.version for net in remote):
            message = "{}: one end has IPv4 subnets only and the other IPv6 only, so no traffic can pass"
            self._report.add(Code.SELECTORS, candidate.policy, candidate.path, message, candidate.name, severity)
        if any(net.prefixlen == 0 for net in (*local, *remote)):
            message = "{}: the subnets include a default route, so all traffic enters the tunnel"
            self._report.add(
                Code.DEFAULT_ROUTE, candidate.policy, candidate.path, message, candidate.name, Severity.WARNING
            )
        elif overlap(local, remote):
            message = "{}: the subnets of both ends overlap: use disjoint subnets"
            self._report.add(Code.OVERLAP, candidate.policy, candidate.path, message, candidate.name, severity)

    def _children(self, candidate: Candidate, tunnel: Tunnel) -> None:
        """Report children of one tunnel that claim the same traffic: the kernel would use one of them at random."""
        for (_, one), (index, other) in combinations(enumerate(tunnel.link.children), 2):
            if children_overlap(one, other):
                message = (
                    f"{{}}: the children {one.name} and {other.name} claim the same traffic: use disjoint selectors"
                )
                field = f"{children_field(candidate)}/{index}"
                self._report.add(Code.OVERLAP, candidate.policy, field, message, candidate.name)

    def _mode(self, candidate: Candidate, tunnel: Tunnel, spec: ChildSpec, child: ChildSettings) -> None:
        """Report subnets that the mode cannot carry: an error if the policy sets them, else by the peer that announced them."""
        field = f"{_child_options_field(candidate, spec)}/mode"
        own, other = min(candidate.peers), tunnel.peer
        sides = (
            (own, child.local_ts, tunnel.local_endpoints), (other, child.remote_ts, tunnel.remote_endpoints)
        )  # fmt: skip
        for peer, selectors, endpoints in sides:
            if is_one_host(child.mode, selectors, endpoints):
                continue
            if (foreign := foreign_host(child.mode, selectors, endpoints)) is not None:
                known = ", ".join(str(it.host) for it in endpoints)
                message = (
                    f"{{}}: {child.mode} mode protects the end's own address only: {foreign} is none of the addresses of "
                    f"{peer or 'the foreign gateway'} ({known}); set `addresses` of that end, or use tunnel mode"
                )
                announced = peer is not None and not end_of(candidate, peer).subnets
                subject, severity = (peer or "", Severity.WARNING) if announced else (candidate.name, Severity.ERROR)
                self._report.add(Code.UNSUPPORTED, candidate.policy, field, message, subject, severity)
            elif peer is None or end_of(candidate, peer).subnets:
                message = f"{{}}: {child.mode} mode is between two single hosts only: use tunnel mode"
                self._report.add(Code.UNSUPPORTED, candidate.policy, field, message, candidate.name)
            else:
                feature = f"{child.mode} mode between networks"
                self._unable.setdefault((candidate.policy.id, field, feature), {})[peer] = True

    def _capabilities(self, candidate: Candidate, tunnel: Tunnel, peer: PeerId) -> None:
        driver = self._fleet.records[peer].driver(IPSEC)
        end = end_of(candidate, peer)
        lacking = self._lacking_features(candidate, driver.features)
        field = f"{candidate.path}/ends/{int(end is candidate.second)}"
        more = [(field, feature) for feature in _features_of_addresses(end)]
        if any(map(needs_dynamic_selectors, tunnel.link.children)):
            more.append((children_field(candidate), "dynamic-selectors"))
        lacking = (*lacking, *(need for need in more if not can_do(driver.features, need[1])))
        for field, feature in lacking:
            self._unable.setdefault((candidate.policy.id, field, feature), {})[peer] = bool(driver.features)
        if end.xfrm is None:
            return
        for field, feature in features_of_xfrm(end.xfrm):
            if not can_do(driver.features, feature):
                message, severity = f"{{}}: {feature} is not supported: remove it", Severity.ERROR
                if not driver.features:
                    # Its tunnel is refused by its own driver if the data plane turns out not to support it.
                    message = f"{{}}: support for {feature} is unknown until its IPsec daemon has answered"
                    severity = Severity.WARNING
                where = f"{candidate.path}/ends/{int(end is candidate.second)}/xfrm/{field}"
                self._report.add(Code.UNSUPPORTED, candidate.policy, where, message, peer, severity)

    def _lacking_features(self, candidate: Candidate, features: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The fields that need what a driver with these features does not support, each with the feature."""
        asking = _requesting(candidate)
        if (asking, features) not in self._lacking:
            if asking not in self._needs:
                self._needs[asking] = tuple(_needs(candidate))
            lacking = (need for need in self._needs[asking] if not can_do(features, need[1]))
            self._lacking[asking, features] = tuple(lacking)
        return self._lacking[asking, features]

    def _stated_proposals(self, candidate: Candidate) -> tuple[tuple[str, str, tuple[Algorithms, ...]], ...]:
        """The fields with proposals, each with its level."""
        asking = _requesting(candidate)
        if asking not in self._stated:
            crypto, children = candidate.crypto, children_field(candidate)
            fields = [("crypto/ike", "ike", crypto.ike), ("crypto/esp", "esp", crypto.esp)]
            fields += [(f"{children}/{index}/esp", "esp", spec.esp) for index, spec in enumerate(candidate.children)]
            self._stated[asking] = tuple(it for it in fields if it[2])
        return self._stated[asking]

    def _proposals(self, candidate: Candidate, tunnel: Tunnel, peer: PeerId) -> None:
        """Warn of stated proposals that a peer's driver does not support in full, so that they are narrowed or removed."""
        fields = self._stated_proposals(candidate)
        if not fields:
            return
        driver = self._fleet.records[peer].driver(IPSEC)
        used = {*tunnel.link.ike.proposals, *(it for child in tunnel.link.children for it in child.proposals)}
        for field, level, stated in fields:
            words = driver.ike if level == "ike" else driver.esp
            for index, proposal in enumerate(stated):
                if proposal not in used and not can_express(proposal, words, driver.features):
                    message = (
                        f"{{}}: {proposal.keywords} is not supported in full: what these peers do not support is removed "
                        "from their tunnels"
                    )
                    where = f"{field}/{index}"
                    self._report.add(Code.UNSUPPORTED, candidate.policy, where, message, peer, Severity.WARNING)


def _requesting(candidate: Candidate) -> _Requesting:
    return candidate.policy.id, candidate.path


def _needs(candidate: Candidate) -> Iterator[tuple[str, str]]:
    """The fields of a candidate that not every driver supports, each with the feature that it needs."""
    options = options_field(candidate)
    yield from ((f"{options}/{option}", feature) for option, feature in features_of(candidate.options))
    for spec in candidate.children:
        field = _child_options_field(candidate, spec)
        if spec.options is not None:
            yield from ((f"{field}/{option}", feature) for option, feature in features_of_child(spec.options))
        if needs_selectors(spec):
            yield children_field(candidate), "selectors"


def _features_of_addresses(end: TunnelEnd) -> Iterator[str]:
    """The driver features that the virtual addresses of an end require."""
    if end.vips:
        yield "vips"
        if len({address.version for address in end.vips}) < len(end.vips):
            yield "several-vips"
    elif end.pools:
        yield "pools"


def end_of(candidate: Candidate, peer: PeerId) -> TunnelEnd:
    """The end of a candidate that is this peer."""
    return candidate.first if candidate.first.peer == peer else candidate.second


def options_field(candidate: Candidate) -> str:
    """The field of a candidate's options: at its tunnel, else at its policy."""
    if candidate.options is candidate.policy.options:
        return "options"
    return f"{candidate.path}/options"


def children_field(candidate: Candidate) -> str:
    """The field of a candidate's children: at its policy, else at its tunnel."""
    if candidate.children is candidate.policy.children:
        return "children"
    return f"{candidate.path}/children"


def _child_options_field(candidate: Candidate, spec: ChildSpec) -> str:
    if spec.options is None:
        return f"{options_field(candidate)}/child"
    return f"{children_field(candidate)}/{candidate.children.index(spec)}/options"
