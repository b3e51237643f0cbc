"""A user of the VPN server, and the file of all of them. Pure."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.base import Input
from warren_vpn.profiles.profile import Ed25519Key, Identity, UserName
from warren_vpn.users.password import NtHash, PasswordVerifier

MAX_USERS = 10_000


class User(Input):
    """A user, by whatever it logs in with. Rates are in megabits a second, each way."""

    name: UserName
    password: PasswordVerifier | None = None
    nt_hash: NtHash | None = None
    """For EAP-MSCHAPv2; None: the user can only use EAP-GTC."""
    public_key: Ed25519Key | None = None
    """Base64 of a raw Ed25519 key that the user's client owns; its IKE identity is `name`."""
    certificate_identities: Annotated[tuple[Identity, ...], Field(max_length=4)] = ()
    """The identities of the user's certificate, of the server's client CA: Apple's clients name its subjectAltName, Windows's its
    subject."""
    networks: Annotated[tuple[IPNetwork, ...], Field(max_length=64)] = ()
    """What the user may reach; empty: all that the server offers."""
    rate_mbit: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """None: the server's limit."""
    addresses: Annotated[tuple[IPAddress, ...], Field(max_length=2)] = ()
    """Fixed addresses, at most one of each IP version; none: from the pools."""
    allow_from: Annotated[tuple[IPNetwork, ...], Field(max_length=64)] = ()
    """From where the user may connect; empty: the server's `limits.allow_from`."""
    disabled: Annotated[bool, Field(strict=True)] = False
    created_at: AwareDatetime
    changed_at: AwareDatetime
    """When the password or key was set last."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not any((self.password, self.public_key, self.certificate_identities)):
            raise ValueError("needs a password, a public_key or certificate_identities to log in with")
        if self.nt_hash is not None and self.password is None:
            raise ValueError("nt_hash: needs a password as well")
        if len({address.version for address in self.addresses}) != len(self.addresses):
            raise ValueError("addresses: at most one of each IP version")
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """How the user can log in, by the names that sessions report."""
        found: tuple[str, ...] = ("eap-gtc",) if self.password is not None else ()
        found += ("eap-mschapv2",) if self.nt_hash is not None else ()
        found += ("raw-key",) if self.public_key is not None else ()
        return found + (("certificate",) if self.certificate_identities else ())


class Users(Input):
    """The user file."""

    version: Literal[1] = 1
    users: Annotated[tuple[User, ...], Field(max_length=MAX_USERS)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        own: dict[str, list[str]] = {
            "name": [user.name.lower() for user in self.users],
            "public_key": [user.public_key for user in self.users if user.public_key is not None],
            "certificate identity": [text.lower() for user in self.users for text in user.certificate_identities],
            "fixed address": [str(address) for user in self.users for address in user.addresses],
        }
        for what, values in own.items():
            if len(values) != len(set(values)):
                raise ValueError(f"two users have the same {what}")
        return self

    def find(self, name: str) -> User | None:
        """Return the user of this name, or None. Names are compared without case, as clients complete them."""
        wanted = name.lower()
        return next((user for user in self.users if user.name.lower() == wanted), None)

    def with_user(self, user: User) -> "Users":
        """Add a user, or replace the one of the same name. ValidationError: it contradicts another one."""
        others = [other for other in self.users if other.name.lower() != user.name.lower()]
        return Users(users=tuple(sorted((*others, user), key=lambda one: one.name.lower())))

    def without(self, name: str) -> "Users":
        """Remove a user."""
        return Users(users=tuple(user for user in self.users if user.name.lower() != name.lower()))
