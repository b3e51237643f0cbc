"""A user as operators see it: everything but the verifier of the password."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from warren_cli.remote.render import joined, moment, print_fields, print_json, print_table
from warren_contracts.addresses import IPAddress, IPNetwork
from warren_vpn.users.model import User


class ShownUser(BaseModel):
    """See the module."""

    name: str
    login: tuple[str, ...]
    disabled: bool
    allow_from: tuple[IPNetwork, ...]
    networks: tuple[IPNetwork, ...]
    rate_mbit: float | None
    addresses: tuple[IPAddress, ...]
    public_key: str | None
    certificate_identities: tuple[str, ...]
    created_at: datetime
    changed_at: datetime


def shown(user: User) -> ShownUser:
    """The user without its secrets."""
    values = {name: getattr(user, name) for name in ShownUser.model_fields if name != "login"}
    return ShownUser(login=user.methods, **values)


def print_user(user: User, as_json: bool) -> None:
    """One user, a line a field."""
    one = shown(user)
    if as_json:
        print_json(one)
        return
    print_fields(
        [
            ("name", one.name),
            ("login", joined(one.login)),
            ("state", "disabled" if one.disabled else "enabled"),
            ("networks", joined(one.networks) if one.networks else "all that the server offers"),
            ("allowed from", joined(one.allow_from) if one.allow_from else None),
            ("rate", "the server's limit" if one.rate_mbit is None else f"{one.rate_mbit:g} Mbit/s"),
            ("addresses", joined(one.addresses) if one.addresses else "from the pools"),
            ("public key", one.public_key),
            ("certificate", joined(one.certificate_identities) if one.certificate_identities else None),
            ("created", moment(one.created_at)),
            ("password or key set", moment(one.changed_at)),
        ]
    )


def print_users(users: Sequence[User], as_json: bool) -> None:
    """All users, a line each."""
    if as_json:
        print_json([shown(user) for user in users])
        return
    rows = [
        (
            user.name,
            joined(user.methods),
            "disabled" if user.disabled else "enabled",
            joined(user.addresses),
            joined(user.networks),
            "-" if user.rate_mbit is None else f"{user.rate_mbit:g}",
        )
        for user in users
    ]
    columns = ("NAME", "LOGIN", "STATE", "ADDRESSES", "NETWORKS", "MBIT/S")
    print_table(columns, rows, "no users; add one: warren vpn user add NAME", optional=("NETWORKS", "ADDRESSES"))
