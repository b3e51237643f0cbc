"""The catalogue of drivers: which kinds exist, which settings each has, and how one is built.

strongSwan and the userspace driver are built in. Other distributions register a kind by an entry point in the group
`warren.drivers`, whose name is the kind and whose value is a `DriverKind`:

    [project.entry-points."warren.drivers"]
    wireguard = "warren_wireguard.driver:KIND"

A driver's modules are imported when its kind is used, so that an agent pays for one daemon only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from warren_agent.drivers.port import Driver, KernelGuard
from warren_agent.drivers.strongswan.settings import SETTINGS as STRONGSWAN_SETTINGS
from warren_agent.drivers.userspace.settings import SETTINGS as USERSPACE_SETTINGS
from warren_agent.errors import UnknownDriverError
from warren_agent.setting import Setting

GROUP = "warren.drivers"
DEFAULT_KIND = "strongswan"


@dataclass(frozen=True)
class DriverContext:
    """What a driver is built from. `ike_seed` is the host's raw Ed25519 IKE key (32 bytes) and never shown."""

    settings: Mapping[str, str]  # by name, defaults included
    state_folder: Path  # where the driver may store a file of its own
    ike_seed: bytes
    guard: KernelGuard | None = None  # None: this host has none

    def __repr__(self) -> str:
        return f"DriverContext(state_folder={str(self.state_folder)!r})"


@dataclass(frozen=True)
class DriverKind:
    """One kind of driver: its settings table and its factory. Building connects to nothing."""

    build: Callable[[DriverContext], Driver]
    links: tuple[str, ...] = ("ipsec",)  # kinds of links that it serves
    settings: tuple[Setting, ...] = ()


def _strongswan(context: DriverContext) -> Driver:
    from warren_agent.drivers.strongswan.factory import build

    return build(context.settings, context.state_folder, context.ike_seed, context.guard)


def _userspace(context: DriverContext) -> Driver:
    from warren_agent.drivers.userspace.factory import build

    return build(context.settings, context.state_folder, context.ike_seed)


BUILT_IN: Mapping[str, DriverKind] = {
    DEFAULT_KIND: DriverKind(_strongswan, settings=STRONGSWAN_SETTINGS),
    "userspace": DriverKind(_userspace, settings=USERSPACE_SETTINGS),
}


def kinds() -> tuple[str, ...]:
    """The names of all kinds, built in and installed.

    Raises:
        UnknownDriverError: a distribution registers a kind of a built-in name, which would be ambiguous.
    """
    import importlib.metadata  # a megabyte that strongSwan's hosts do not need

    installed = importlib.metadata.entry_points(group=GROUP)
    for point in installed:
        if point.name in BUILT_IN:
            raise UnknownDriverError(
                f"driver: {point.value} is installed as {point.name!r}, which is built in: uninstall it"
            )
    return tuple(sorted({*BUILT_IN, *(point.name for point in installed)}))


def find(kind: str) -> DriverKind:
    """The driver kind of this name.

    Raises:
        UnknownDriverError: no kind of this name is installed, or its entry point names no `DriverKind`.
    """
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    import importlib.metadata  # as above

    points = importlib.metadata.entry_points(group=GROUP, name=kind)
    if not points:
        raise UnknownDriverError(f"driver: unknown kind {kind!r}; installed kinds: {', '.join(kinds())}")
    point = next(iter(points))
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownDriverError(f"driver: {kind!r} cannot be loaded from {point.value}: {error}") from None
    if not isinstance(found, DriverKind):
        raise UnknownDriverError(f"driver: {point.value} of the entry point {kind!r} must be a DriverKind")
    return found
