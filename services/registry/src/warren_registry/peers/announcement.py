"""Validate announcements. A peer that claims another's network would attract its traffic, so it is refused here.

The limits are here and not in the model, which may not accept less than it did. They bound what one peer's record costs its
readers: each of them gets all of it.
"""

import re
from collections.abc import Iterator

from warren_contracts.addresses import is_one_host
from warren_contracts.identities import IdentityType, canonical, parse_identity
from warren_contracts.names import is_name
from warren_contracts.peers import Announcement, DriverCapabilities
from warren_contracts.problems import InvalidField, InvalidInputError
from warren_registry.peers.address_claims import AddressClaims, check_identity, refused_networks
from warren_registry.peers.model import Peer

# Bytes of an announcement's JSON: 64 subnets, 16 endpoints and every algorithm of charon have some 8 kB. A quarter of what a
# feed accepts as a record (warren_bus.feed.documents.MAX_RECORD); the operator's tags come on top, some 4 kB at most.
MAX_ANNOUNCEMENT = 16 * 1024
# How often a peer may change its announcement: each change locks the fleet's row, and is sent to every related reader.
BURST = 20.0  # at once: an agent starts, its daemon returns, an operator tries settings
RATE = 0.1  # a second after that
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


_NOT_A_VERSION = "write at most 64 printable ASCII characters"


def check_announcement(peer: Peer, announcement: Announcement, claims: AddressClaims) -> None:
    """Raise InvalidInputError or IdentityConflictError unless `peer` may announce this, conflicts of its networks apart."""
    errors = [
        *_exceeded_limits(announcement),
        *refused_networks(announcement, peer.allowed),
        *_ambiguous_identity(announcement.identity),
        *_impossible_endpoints(announcement),
        *_foreign_echo_addresses(announcement),
    ]
    if errors:
        raise InvalidInputError(
            "; ".join(f"{error.field}: {error.message}" for error in errors[:3]), tuple(errors[:32])
        )
    check_identity(peer, announcement, claims)
    name = canonical(announcement.identity or peer.id)
    if is_name(name.removeprefix("fqdn:")) and name != canonical(peer.id):
        # Also an id that no peer has yet: its owner could not join any more.
        message = "a single label is a peer id, and must be this peer's own"
        raise InvalidInputError(f"identity: {message}", (InvalidField(field="identity", message=message),))


def _exceeded_limits(announcement: Announcement) -> Iterator[InvalidField]:
    if not _VERSION.fullmatch(announcement.agent_version):
        yield InvalidField(field="agent_version", message=_NOT_A_VERSION)
    for index, driver in enumerate(announcement.drivers):
        yield from _exceeded_limits_of(f"drivers/{index}", driver)
    if len({key.use for key in announcement.keys}) < len(announcement.keys):
        yield InvalidField(field="keys", message="two keys for one use: announce one")
    if len({driver.kind for driver in announcement.drivers}) < len(announcement.drivers):
        yield InvalidField(field="drivers", message="two drivers of one kind: announce one")
    if (size := len(announcement.model_dump_json().encode())) > MAX_ANNOUNCEMENT:
        yield InvalidField(field="(root)", message=f"{size} bytes of JSON, at most {MAX_ANNOUNCEMENT}")


def _exceeded_limits_of(where: str, driver: DriverCapabilities) -> Iterator[InvalidField]:
    for field, text in (("kind", driver.kind), ("version", driver.version)):
        if not _VERSION.fullmatch(text):
            yield InvalidField(field=f"{where}/{field}", message=_NOT_A_VERSION)
    lists = (("links", driver.links), ("ike", driver.ike), ("esp", driver.esp), ("features", driver.features))
    for field, words in lists:
        if len(words) > MAX_WORDS:
            yield InvalidField(field=f"{where}/{field}", message=f"at most {MAX_WORDS} entries")
        elif not all(map(_WORD.fullmatch, words)):
            message = "an entry has at most 64 letters, digits and . _ + : / = -"
            yield InvalidField(field=f"{where}/{field}", message=message)


def _impossible_endpoints(announcement: Announcement) -> Iterator[InvalidField]:
    for index, endpoint in enumerate(announcement.endpoints):
        if endpoint in announcement.endpoints[:index]:
            yield InvalidField(field=f"endpoints/{index}", message=f"{endpoint} is listed twice: remove it")
        elif not is_one_host(endpoint):
            message = f"{endpoint} is not a unicast address: announce the address of the gateway, or none"
            yield InvalidField(field=f"endpoints/{index}", message=message)


def _foreign_echo_addresses(announcement: Announcement) -> Iterator[InvalidField]:
    """Refuse addresses outside of the peer's networks: echoes to them would be sent to another's."""
    for index, address in enumerate(announcement.echo_addresses):
        if not any(address in subnet for subnet in announcement.subnets):
            message = f"{address} is in none of the announced subnets: announce an address of the peer within them"
            yield InvalidField(field=f"echo_addresses/{index}", message=message)


def _ambiguous_identity(text: str | None) -> Iterator[InvalidField]:
    """Refuse an identity that may match another peer: charon finds the owner of an IKE_SA by it."""
    if text is None:
        return
    identity, name = parse_identity(text), canonical(text)
    form = _IDENTITY_FORMS.get(identity.type)
    if identity.has_wildcards or name.startswith("any:"):
        yield InvalidField(field="identity", message="must match only this peer: no wildcard")
    elif form is None or not form.fullmatch(identity.value):
        message = "write a name (gw.example.org), an e-mail address, an IP address, or `keyid:` and letters or digits"
        yield InvalidField(field="identity", message=message)
