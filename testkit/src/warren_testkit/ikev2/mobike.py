"""Helpers for tests of MOBIKE (RFC 4555): two engines with several addresses each, and the paths of their ESP."""

from ipaddress import ip_address
from typing import Any

from warren_ikev2.addresses import IPAddress, Path, SocketAddress
from warren_ikev2.events import AddressChanged
from warren_testkit.ikev2.pair import Pair, make_pair

MOON, MOON_2, MOON_6 = (ip_address(text) for text in ("192.0.2.1", "198.51.100.1", "2001:db8::1"))
SUN, SUN_2, SUN_6 = (ip_address(text) for text in ("192.0.2.2", "198.51.100.2", "2001:db8::2"))
UNKNOWN_HOST = ip_address("203.0.113.66")


def make_mobile(moon: tuple[IPAddress, ...] = (), sun: tuple[IPAddress, ...] = (), **fields: Any) -> Pair:
    """A pair that is up, with these addresses; `moon_…` and `sun_…` are fields of one side."""
    sides: dict[str, dict[str, Any]] = {"moon": {"local_addresses": moon}, "sun": {"local_addresses": sun}}
    for name, value in fields.items():
        side, _, field = name.partition("_")
        sides[side][field] = value
    pair = make_pair(sides["moon"], sides["sun"])
    pair.moon.more, pair.sun.more = list(moon), list(sun)
    return pair.establish()


def esp_paths(pair: Pair) -> list[tuple[IPAddress, IPAddress]]:
    """The paths of both sides' ESP, as moon sees them."""
    (moon,), (sun,) = pair.moon.children, pair.sun.children
    moon_path = next((e.new_path for e in reversed(pair.moon.all(AddressChanged))), moon.path)
    sun_path = next((e.new_path for e in reversed(pair.sun.all(AddressChanged))), sun.path)
    return [(moon_path.local.host, moon_path.remote.host), (sun_path.remote.host, sun_path.local.host)]


def on(local: IPAddress, remote: IPAddress, port: int = 4500) -> Path:
    """A path from moon's port to sun's NAT traversal port."""
    return Path(SocketAddress(local, port), SocketAddress(remote, 4500))
