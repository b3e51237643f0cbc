"""server.toml: everything about the server but users with passwords. Validated as a whole; an unknown field is an error."""

import base64
import binascii
import tomllib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from warren_cli.files import read_small_text
from warren_contracts.base import Input, StrictBool
from warren_contracts.networks import overlap
from warren_contracts.problems import invalid_input
from warren_vpn.owned_file import is_there
from warren_vpn.server.errors import ServerSettingError

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

MAX_SETTINGS = 4 << 20
"""Bytes of server.toml: ten thousand users with keys."""
MAX_USERS = 10_000
SMALLEST_POOL = 4
"""Addresses: the server's own and one client's fit in the smallest network that has host addresses."""
TUNNEL_OVERHEAD = 100
"""Bytes of outer headers, ESP and padding, over IPv4 and IPv6 with every cipher of the server."""
EVERYTHING: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
CONTROL = "control.sock"
_MBIT = 1_000_000 // 8

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
MegabitRate = Annotated[float, Field(gt=0, le=100_000)]
Device = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
IDENTITY_PATTERN = r"^[A-Za-z0-9._@:-]{1,255}$"
Identity = Annotated[str, StringConstraints(pattern=IDENTITY_PATTERN)]


def _raw_key(text: str) -> str:
    try:
        if len(base64.b64decode(text, validate=True)) == 32:
            return text
    except (binascii.Error, ValueError):
        pass
    raise ValueError("must be the Base64 of an Ed25519 public key of 32 bytes")


RawPublicKey = Annotated[str, StringConstraints(max_length=64), AfterValidator(_raw_key)]


class KeyUser(Input):
    """A user who logs in with a raw Ed25519 key, and what is particular to it."""

    name: UserName
    public_key: RawPublicKey
    """Base64 of 32 bytes."""
    addresses: Annotated[tuple[Address, ...], Field(max_length=2)] = ()
    """Fixed addresses inside the pools, at most one of each IP version."""
    networks: Annotated[tuple[Network, ...], Field(max_length=64)] = ()
    """What this user may reach; empty: `tunnel.networks`."""
    allow_from: Annotated[tuple[Network, ...], Field(max_length=64)] = ()
    """From where this user may connect; empty: `limits.allow_from`."""
    rate_mbit: MegabitRate | None = None
    """Each way; None: `limits.rate_mbit`."""


class TunnelSettings(Input):
    """Inside the tunnel."""

    pools: Annotated[tuple[Network, ...], Field(min_length=1, max_length=8)]
    """Addresses for clients. The first address of each network is the server's own."""
    networks: Annotated[tuple[Network, ...], Field(min_length=1, max_length=64)] = EVERYTHING
    """What clients reach through the tunnel."""
    dns: Annotated[tuple[Address, ...], Field(max_length=8)] = ()
    device: Device = "wvpn0"
    nat: StrictBool = True
    """Whether clients appear with the server's own address outside."""
    client_to_client: StrictBool = False
    server_services: StrictBool = False
    """Whether clients reach services on the server's host; DNS at the addresses of `dns`, and ping, they reach anyway."""
    uplinks: Annotated[tuple[Device, ...], Field(max_length=16)] = ()
    """Interfaces whose packets are forwarded to clients; empty: those of the default routes."""
    path_mtu: Annotated[int, Field(ge=1280, le=9200, strict=True)] = 1500

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for at, pool in enumerate(self.pools):
            if pool.num_addresses < SMALLEST_POOL:
                raise ValueError(f"pools: {pool} has fewer than {SMALLEST_POOL} addresses")
            if any(overlap(pool, other) for other in self.pools[:at]):
                raise ValueError(f"pools: {pool} overlaps another pool")
        return self

    @property
    def mtu(self) -> int:
        """Of the tunnel device, in bytes."""
        return self.path_mtu - TUNNEL_OVERHEAD

    @property
    def own_addresses(self) -> tuple[Address, ...]:
        """The server's own address in each pool: the first one after the network's."""
        return tuple(pool[1] for pool in self.pools)


class LimitSettings(Input):
    """What clients may do."""

    same_user: Literal["replace", "refuse", "keep"] = "replace"
    """A second connection of one user: replaces the first, is refused, or both stay."""
    inactivity_s: Annotated[int, Field(ge=10, le=3600, strict=True)] = 60
    """Silence after which a client is offline: the server asks it before that whether it is there."""
    rate_mbit: MegabitRate | None = None
    """Of each client, each way; None: no limit."""
    allow_from: Annotated[tuple[Network, ...], Field(max_length=256)] = ()
    """Networks from which clients may connect; empty: from anywhere."""
    half_open: Annotated[int, Field(ge=10, le=100_000, strict=True)] = 1000
    """Handshakes at a time."""
    half_open_per_address: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 10


class LifetimeSettings(Input):
    """When keys are replaced. Each CHILD_SA and each rekeyed one has keys of its own key exchange (forward secrecy)."""

    ike_s: Annotated[int, Field(ge=60, le=7 * 86400, strict=True)] = 14400
    child_s: Annotated[int, Field(ge=60, le=86400, strict=True)] = 3600


class ServerSettings(Input):
    """The whole of server.toml. Paths are relative to its folder."""

    identity: Identity
    """By which clients know this server: its domain name or address."""
    listen: Annotated[tuple[Address, ...], Field(min_length=1, max_length=2)] = (
        IPv4Address("0.0.0.0"),  # noqa: S104  a server listens
        IPv6Address("::"),
    )
    ike_port: Port = 500
    natt_port: Port = 4500
    key: str = "server.key"
    certificate: str | None = None
    """PEM: the server's certificate, then intermediates; for clients of other vendors."""
    certificate_key: str | None = None
    client_ca: str | None = None
    """PEM: the CA of users with certificates."""
    control: str = CONTROL
    metrics_port: Port | None = None
    """Prometheus's text on the loopback; None: none."""
    fleet: str | None = None
    """Folder of an enrolment, which `warren-agent enrol` has made: sessions are reported to that fleet."""
    tunnel: TunnelSettings
    limits: LimitSettings = LimitSettings()
    lifetimes: LifetimeSettings = LifetimeSettings()
    user: Annotated[tuple[KeyUser, ...], Field(max_length=MAX_USERS)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ike_port == self.natt_port:
            raise ValueError("ike_port and natt_port must differ")
        if len({address.version for address in self.listen}) != len(self.listen):
            raise ValueError("listen: at most one address of each IP version")
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key belong together: give both")
        names: set[str] = set()
        taken: set[Address] = set(self.tunnel.own_addresses)
        for user in self.user:
            if user.name in names:
                raise ValueError(f"user: {user.name} is there twice")
            names.add(user.name)
            check_addresses(user.name, user.addresses, self.tunnel.pools, taken)
        return self


def check_addresses(name: str, addresses: tuple[Address, ...], pools: tuple[Network, ...], taken: set[Address]) -> None:
    """Check the fixed addresses of a user, and add them to those taken. ValueError: the reason."""
    if len({address.version for address in addresses}) != len(addresses):
        raise ValueError(f"user {name}: at most one address of each IP version")
    for address in addresses:
        if not any(address in pool for pool in pools):
            raise ValueError(f"user {name}: {address} is in no pool")
        if address in taken:
            raise ValueError(f"user {name}: {address} is taken")
        taken.add(address)


def bytes_per_second(rate_mbit: float | None) -> int | None:
    """A rate in bytes."""
    return None if rate_mbit is None else int(rate_mbit * _MBIT)


def parse_settings(text: str, what: str) -> ServerSettings:
    """Parse server.toml. ServerSettingError names the file, as `what`, and each invalid field."""
    try:
        return ServerSettings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ServerSettingError(f"{what}: not TOML ({error})") from None
    except ValidationError as error:
        raise ServerSettingError(f"{what}: {invalid_input(error.errors(include_url=False)).detail}") from None


def listed_keys(text: str) -> frozenset[tuple[str, str]] | None:
    """The users of a server.toml with an invalid setting, by name and public key; None: that much cannot be read of it either."""
    try:
        entries = tomllib.loads(text).get("user", [])
    except ValueError:
        return None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    return frozenset((str(entry.get("name")), str(entry.get("public_key"))) for entry in entries)


def read_settings_text(path: Path) -> str:
    """Read server.toml's text. CliError: it cannot be read, or is too long."""
    if not is_there(path):
        raise ServerSettingError(
            f"{path}: there is no such file; make a server by `warren vpn server init --identity NAME`, or name its file by --config"
        )
    return read_small_text(path, "the server's configuration", MAX_SETTINGS)


def control_path(path: Path) -> Path:
    """Where the server of a server.toml answers, also one that runs while the file is invalid. CliError: it cannot be read."""
    try:
        name = tomllib.loads(read_settings_text(path)).get("control", CONTROL)
    except ValueError:
        name = CONTROL
    return path.absolute().parent / (name if isinstance(name, str) else CONTROL)


def read_settings(path: Path) -> ServerSettings:
    """Read server.toml. ServerSettingError, or CliError if it cannot be read."""
    return parse_settings(read_settings_text(path), str(path))
