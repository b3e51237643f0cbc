"""What a profile says about the server and the user, before it has the form of one client. Pure."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, StringConstraints

from warren_cli.errors import CliError
from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.base import Input
from warren_contracts.names import NAME_PATTERN
from warren_vpn.profiles.profile import (
    EVERYTHING,
    IKE_PORT,
    NATT_PORT,
    Certificates,
    DomainName,
    Ed25519Key,
    Identity,
    ProfileServer,
)
from warren_vpn.users.certificate import UserCertificate
from warren_vpn.users.model import User

IKE_PROPOSAL = "aes256gcm16-prfsha384-ecp256"
ESP_PROPOSAL = "aes256gcm16-ecp256"
"""What the clients of strongSwan, Apple and Windows have in common with the server's defaults."""


class UnsuitableProfileError(CliError):
    """The client cannot log in as this user."""


class ServerFacts(Input):
    """The server as clients see it. Its texts become parts of several languages, so they are validated as a profile's are."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Of the profile."""
    servers: Annotated[tuple[ProfileServer, ...], Field(min_length=1, max_length=16)]
    identity: Identity
    public_key: Ed25519Key
    """Base64 of its raw Ed25519 key."""
    authority_pem: Certificates | None
    """The CA of its certificate; None: it has none, and serves only clients that take raw keys."""
    routes: Annotated[tuple[IPNetwork, ...], Field(min_length=1)] = EVERYTHING
    dns_servers: tuple[IPAddress, ...] = ()
    search_domains: tuple[DomainName, ...] = ()

    @property
    def is_full_tunnel(self) -> bool:
        """Whether all traffic goes through the tunnel."""
        return any(network.prefixlen == 0 for network in self.routes)

    @property
    def has_standard_ports(self) -> bool:
        """Whether the server listens where every client expects it."""
        return all((server.ike_port, server.port) == (IKE_PORT, NATT_PORT) for server in self.servers)

    @property
    def first_port(self) -> int:
        """Where strongSwan's clients send their first message: other ports than 500 are for NAT traversal from the start."""
        return IKE_PORT if self.has_standard_ports else self.servers[0].port

    def require_standard_ports(self, client: str) -> None:
        """UnsuitableProfileError: the client knows no other ports than 500 and 4500."""
        if not self.has_standard_ports:
            raise UnsuitableProfileError(
                f"{client} connects to UDP 500 and 4500 only: set ike_port and natt_port of server.toml"
            )

    def proves_by_raw_key(self, user: User) -> bool:
        """Whether the server proves itself to this user by its raw key; else by its certificate."""
        return user.public_key is not None or self.authority_pem is None

    def required_authority(self, client: str) -> str:
        """The CA's certificate. UnsuitableProfileError: the server has no certificate, which this client needs."""
        if self.authority_pem is None:
            raise UnsuitableProfileError(
                f"{client} needs a server certificate: set certificate, certificate_key and client_ca in server.toml"
            )
        return self.authority_pem


@dataclass(frozen=True, slots=True)
class Secrets:
    """What makes a profile a secret; only `--with-key` puts it there."""

    certificate: UserCertificate | None = None
    passphrase: str | None = field(default=None, repr=False)
    """Of the PKCS #12."""
    private_key: str | None = field(default=None, repr=False)
    """The user's raw key, in PEM."""


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """One file of a profile."""

    name: str
    content: bytes = field(repr=False)
    secret: bool = False
    """Whether it holds a private key: it is written with mode 0600."""


@dataclass(frozen=True, slots=True)
class BuiltProfile:
    """The files of a profile, and what to do with them."""

    files: tuple[ProfileFile, ...]
    steps: tuple[str, ...]


def require_enabled(user: User) -> None:
    """UnsuitableProfileError: the user is disabled."""
    if user.disabled:
        raise UnsuitableProfileError(f"user {user.name!r} is disabled; warren vpn user enable {user.name}")
