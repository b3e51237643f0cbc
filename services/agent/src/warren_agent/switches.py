"""Kernel switches that keep a tunnel's packets from passing, read without privileges: for hosts without a guard.

What packet filters and source NAT do cannot be read without CAP_NET_ADMIN; the guard looks at them, and at these switches too.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from warren_agent.domain.health import Contradiction
from warren_agent.host import forwards_ipv4
from warren_contracts.status import ReasonCode, TunnelStatus
from warren_contracts.tunnel import Tunnel

READ_INTERVAL = 10.0  # s
STRICT = 1  # of rp_filter (RFC 3704, 2.2)
_SYSCTL = Path("/proc/sys/net")
_NAMES = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


class HostSwitches:
    """Finds that this host does not forward, or filters by reverse path (an Inspector of `warren_agent.health`).

    `devices` are the interfaces that carry tunnel traffic.
    """

    def __init__(self, devices: Iterable[str], clock: Callable[[], float], sysctl: Path = _SYSCTL) -> None:
        self._devices = tuple(devices)
        self._clock = clock
        self._sysctl = sysctl
        self._read_at = float("-inf")
        self._not_forwarding: frozenset[int] = frozenset()  # IP versions
        self._strict: tuple[str, ...] = ()

    def findings(self, config: Tunnel, status: TunnelStatus) -> Iterable[Contradiction]:
        """What contradicts that packets pass this tunnel, by the last reading."""
        if self._clock() - self._read_at >= READ_INTERVAL:
            self._read_at = self._clock()
            self._read()
        for version in sorted(self._not_forwarding & _forwarded(config)):
            detail = f"{_NAMES[version]} is 0, so no packet of a protected network is forwarded: set it to 1"
            yield Contradiction(ReasonCode.FORWARDING_OFF, detail)
        for device in self._strict:
            yield Contradiction(
                ReasonCode.RP_FILTER,
                f"net.ipv4.conf.{device}.rp_filter is 1 (strict): packets from a tunnel are dropped unless the route back uses"
                f" {device}; set it to 2",
            )

    def _read(self) -> None:
        forwards = {4: forwards_ipv4(), 6: self._value("ipv6/conf/all/forwarding") != 0}
        self._not_forwarding = frozenset(version for version, is_on in forwards.items() if is_on is False)
        self._strict = tuple(device for device in self._devices if self._is_strict(device))

    def _is_strict(self, device: str) -> bool:
        """The greater value of `all` and the device's is in force (ip-sysctl.rst of the kernel)."""
        own = self._value(f"ipv4/conf/{device}/rp_filter")
        return own is not None and max(own, self._value("ipv4/conf/all/rp_filter") or 0) == STRICT

    def _value(self, key: str) -> int | None:
        """None if there is none: no such device, or no such protocol."""
        try:
            return int((self._sysctl / key).read_text())
        except (OSError, ValueError):
            return None


def _forwarded(config: Tunnel) -> frozenset[int]:
    """The IP versions of the networks behind this end, beyond single addresses."""
    return frozenset(
        network.version
        for child in config.link.children
        for selector in child.local_ts
        for network in selector.networks
        if network.prefixlen < network.max_prefixlen
    )
