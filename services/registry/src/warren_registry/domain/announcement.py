"""What a peer may say of itself. A peer that claims another's network would draw its traffic, so the door is here.

The limits stand here and not in the released model, which may not accept less than it did. They bound what one peer's
record costs whoever reads it: every reader of a directory gets all of it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from warren_contracts.identities import IdentityType, canonical, parse_identity
from warren_contracts.names import is_name
from warren_contracts.peers import Announcement
from warren_contracts.problems import InvalidField, InvalidInput
from warren_contracts.tunnel import IPNetwork
from warren_registry.domain.peers import Peer
from warren_registry.errors import IdentityConflict, SubnetConflict

# Bytes of an announcement's JSON: 64 subnets, 16 endpoints and every algorithm of charon have some 8 kB. A quarter of what a
# feed takes as a record (warren_bus.feed.documents.MAX_RECORD); the operator's tags come on top, some 4 kB at most.
MAX_ANNOUNCEMENT = 16 * 1024
MAX_WORDS = 256  # of one list of capabilities; charon 6.1 offers some 70 algorithms
_VERSION = re.compile(r"[ -~]{0,64}")  # printable ASCII: it reaches logs and terminals, and JSON as it is
_WORD = re.compile(r"[A-Za-z0-9._+:/=-]{1,64}")
_IDENTITY_FORMS = {
    IdentityType.FQDN: re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?"),
    IdentityType.EMAIL: re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"),
    IdentityType.IPV4: re.compile(r"[0-9.]+"),
    IdentityType.IPV6: re.compile(r"[0-9a-f:.]+"),
    IdentityType.KEYID: re.compile(r"[A-Za-z0-9._:@+-]{1,128}"),
}


class Claim(NamedTuple):
    """A network that another peer protects."""

    peer: str
    subnet: IPNetwork


def check_announcement(
    peer: Peer, announcement: Announcement, claims: Iterable[Claim], identity_holder: str | None
) -> None:
    """Raise InvalidInput, SubnetConflict or IdentityConflict unless `peer` may say this.

    `claims` holds at least every other peer's network that overlaps an announced one; `identity_holder` is another peer
    that has the announced identity, or whose id it is.
    """
    errors = [
        *_unbounded(announcement),
        *(
            InvalidField(field=f"subnets/{index}", message=message)
            for index, subnet in enumerate(announcement.subnets)
            if (message := _wrong(subnet, peer.allowed))
        ),
        *_no_identity(announcement.identity),
    ]
    if errors:
        raise InvalidInput("; ".join(f"{error.field}: {error.message}" for error in errors[:3]), tuple(errors[:32]))
    for claim in claims:
        for index, subnet in enumerate(announcement.subnets):
            if claim.peer != peer.id and overlap(subnet, claim.subnet):
                message = f"{subnet} overlaps {claim.subnet} of the peer {claim.peer}"
                raise SubnetConflict(message, (InvalidField(field=f"subnets/{index}", message=message),))
    if identity_holder is not None and identity_holder != peer.id:
        message = f"the identity belongs to the peer {identity_holder}"
        raise IdentityConflict(message, (InvalidField(field="identity", message=message),))
    name = canonical(announcement.identity or peer.id)
    if is_name(name.removeprefix("fqdn:")) and name != canonical(peer.id):
        # Also one that nobody has yet: its owner could not join any more.
        message = "a single label is a peer id, and this is not this peer's own"
        raise InvalidInput(f"identity: {message}", (InvalidField(field="identity", message=message),))


def _unbounded(announcement: Announcement) -> Iterator[InvalidField]:
    able = announcement.capabilities
    lines = (
        ("agent_version", announcement.agent_version), ("capabilities/driver", able.driver),
        ("capabilities/version", able.version),
    )  # fmt: skip
    for field, text in lines:
        if not _VERSION.fullmatch(text):
            yield InvalidField(field=field, message="write at most 64 printable ASCII characters")
    for field, words in (("ike", able.ike), ("esp", able.esp), ("features", able.features)):
        if len(words) > MAX_WORDS:
            yield InvalidField(field=f"capabilities/{field}", message=f"name at most {MAX_WORDS} words")
        elif not all(map(_WORD.fullmatch, words)):
            message = "a word has at most 64 letters, digits and . _ + : / = -"
            yield InvalidField(field=f"capabilities/{field}", message=message)
    if (size := len(announcement.model_dump_json().encode())) > MAX_ANNOUNCEMENT:
        yield InvalidField(
            field="(whole)", message=f"it has {size} bytes of JSON, at most {MAX_ANNOUNCEMENT} are taken"
        )


def _no_identity(text: str | None) -> Iterator[InvalidField]:
    """What of an announced identity could stand for another peer: charon looks for the owner of an IKE_SA by it."""
    if text is None:
        return
    identity, name = parse_identity(text), canonical(text)
    form = _IDENTITY_FORMS.get(identity.type)
    if identity.has_wildcards or name.startswith("any:"):
        yield InvalidField(field="identity", message="this matches other peers too: name this peer alone")
    elif form is None or not form.fullmatch(identity.value):
        message = "write a name (gw.example.org), an e-mail address, an IP address, or `keyid:` and letters or digits"
        yield InvalidField(field="identity", message=message)


def overlap(own: IPNetwork, other: IPNetwork) -> bool:
    """Whether two networks share an address; never, when their families differ."""
    return (own.version == other.version and own.network_address in other) or other.network_address in own


def within(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether all of `inner` lies in `outer`."""
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _wrong(subnet: IPNetwork, allowed: tuple[IPNetwork, ...]) -> str:
    if subnet.prefixlen == 0:
        return "a default route is no protected network: name the networks behind this peer"
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local or subnet.is_unspecified:
        return f"{subnet} is multicast, loopback or link-local: no tunnel carries it"
    if allowed and not any(within(subnet, outer) for outer in allowed):
        return f"{subnet} lies outside what the join token allows: {', '.join(map(str, allowed))}"
    return ""
