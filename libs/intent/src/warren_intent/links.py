"""The two ends' views of one IPsec link: selectors of its children, settings of its IKE_SA.

Settings are cached by the identity of the policy's parts, since most tunnels of a policy share them.
"""

from collections.abc import Iterable
from typing import Any

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.base import assembled
from warren_contracts.ipsec import DEFAULT_CHILD, ChildOptions, ChildSettings, IkeOptions, IkeSettings
from warren_contracts.policy import ChildSpec
from warren_contracts.proposals import Algorithms
from warren_contracts.selectors import ANY_PORTS, Ports, TrafficSelector

Selectors = tuple[TrafficSelector, ...]
Proposals = tuple[Algorithms, ...]

# Which fields are set is the same for all: one set instead of 2 kB for each tunnel. Nothing changes it, the models are frozen.
_CHILD_FIELDS = set(ChildSettings.model_fields)
DYNAMIC: Selectors = (TrafficSelector(None),)
WHOLE_TUNNEL: tuple[ChildSpec, ...] = (ChildSpec(name=DEFAULT_CHILD),)  # all traffic between the subnets


def selectors_of(networks: Iterable[IPNetwork]) -> Selectors:
    """Networks as selectors of any protocol."""
    return tuple(TrafficSelector(network) for network in networks)


def child_selectors(child: ChildSpec, position: int, subnets: Selectors) -> Selectors:
    """The selectors of one end of a child; `position` 0 is the first end, `subnets` are those of the end."""
    stated = child.ts[position] or subnets
    if not child.protocol and child.ports == (ANY_PORTS, ANY_PORTS):
        return stated
    return tuple(_restrict(selector, child.protocol, child.ports[position]) for selector in stated)


def _restrict(selector: TrafficSelector, protocol: int, ports: Ports) -> TrafficSelector:
    if selector.protocol or selector.ports != ANY_PORTS:
        return selector
    return TrafficSelector(selector.addresses, protocol, ports)


class LinkSettings:
    """IKE and CHILD settings from options and proposals."""

    def __init__(self) -> None:
        self._ike: dict[tuple[object, ...], tuple[IkeOptions, IkeSettings]] = {}
        self._child: dict[int, tuple[ChildOptions, dict[str, Any]]] = {}

    def ike(
        self, options: IkeOptions, proposals: Proposals, vips: tuple[IPAddress, ...], pools: tuple[IPNetwork, ...]
    ) -> IkeSettings:
        """The settings of an IKE_SA. All values come from validated models."""
        # The entry keeps `options` and `proposals` alive, so their ids stay unique.
        key = (id(options), id(proposals), vips, pools)
        if key not in self._ike:
            settings = IkeSettings.model_construct(
                **options.resolved().__dict__, proposals=proposals, vips=vips, pools=pools, ppk_id=None
            )
            self._ike[key] = options, settings
        return self._ike[key][1]

    def child(
        self, name: str, options: ChildOptions, proposals: Proposals, local: Selectors, remote: Selectors
    ) -> ChildSettings:
        """The settings of one CHILD_SA. All values come from validated models."""
        held = self._child.get(id(options))
        if held is None:
            held = self._child[id(options)] = (options, dict(options.resolved().__dict__))
        values = {**held[1], "name": name, "local_ts": local, "remote_ts": remote, "proposals": proposals}
        return assembled(ChildSettings, _CHILD_FIELDS, values)
