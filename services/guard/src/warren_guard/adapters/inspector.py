"""Reads what `find` judges: the ruleset, the kernel's switches, and whether the kernel has IPsec policies."""

from pathlib import Path

from warren_contracts.guard import HostFinding
from warren_guard.adapters import ip, nft
from warren_guard.domain import holdings
from warren_guard.domain.findings import HostReadings, find
from warren_guard.domain.holdings import Holdings
from warren_guard.errors import IpError

_SYSCTL = Path("/proc/sys/net")


class HostInspector:
    """Inspects the network namespace of this process."""

    async def inspect(self, held: Holdings, devices: tuple[str, ...], keep_sources: bool) -> tuple[HostFinding, ...]:
        """The findings now. NftError if the ruleset cannot be read."""
        networks = {
            network.version
            for entry in holdings.traffic(held)
            for pair in entry.pairs
            for selector in pair.local
            for network in selector.networks
            if network.prefixlen < network.max_prefixlen
        }
        facts = HostReadings(
            ruleset=await nft.read_ruleset(),
            forwarding={4: _is_set("ipv4/ip_forward"), 6: _is_set("ipv6/conf/all/forwarding")},
            networks=networks,
            devices=devices,
            strict_rp_filter=[device for device in devices if _rp_filter(device) == 1],
            has_xfrm=await _has_xfrm_policies(),
        )
        return find(facts, keep_sources=keep_sources)


def _is_set(key: str) -> bool:
    """A switch of the kernel; one that does not exist counts as harmless."""
    try:
        return (_SYSCTL / key).read_text().strip() != "0"
    except OSError:
        return True


def _rp_filter(device: str) -> int:
    """The value in force: the greater one of `all` and the device's (ip-sysctl.rst of the kernel)."""
    values = []
    for name in ("all", device):
        try:
            values.append(int((_SYSCTL / "ipv4/conf" / name / "rp_filter").read_text()))
        except (OSError, ValueError):
            continue
    return max(values, default=0)


async def _has_xfrm_policies() -> bool:
    """Whether any outbound policy is installed; policies of single sockets, charon's own for IKE, do not count."""
    try:
        return bool((await ip.run("xfrm", "policy", "list", "dir", "out")).strip())
    except IpError:
        return True  # without ip(8) nothing is known: report rather than not
