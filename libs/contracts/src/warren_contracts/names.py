"""Ids and names. All are tokens of NATS subjects and share one character set.

A tag `>` or `*` would become a wildcard permission; a peer id with a dot would be two tokens. Hence `[a-z0-9_-]{1,63}`
for both (63: one DNS label, RFC 1035 section 2.3.4, so that a peer id is also a valid FQDN identity in IKE).
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

NAME_PATTERN = r"^[a-z0-9_-]{1,63}$"
_NAME = re.compile(NAME_PATTERN)
_NOT_NAME = re.compile(r"[^a-z0-9_-]+")

PeerId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Tag = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
PolicyId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

# The scope of an operator's token: it is for the peers that carry at least one of these tags. None, where a scope is optional, is the
# whole fleet; an empty one is refused wherever it is read, so that a scope that was lost on the way does not become the whole fleet.
MAX_SCOPE_TAGS = 64
Scope = Annotated[
    tuple[Tag, ...],
    Field(min_length=1, max_length=MAX_SCOPE_TAGS),
    AfterValidator(lambda tags: tuple(sorted(set(tags)))),
]

# An explicit tunnel has the name that the policy gives it; a derived one is named by its two ends in order, `hub-1+spoke-2`.
# A peer id contains no `+`, so names never collide; `~` is reserved for the generations of a tunnel inside a driver.
TUNNEL_NAME_PATTERN = r"^[a-z0-9_-]{1,63}(\+[a-z0-9_-]{1,63})?$"
TunnelName = Annotated[str, StringConstraints(pattern=TUNNEL_NAME_PATTERN)]

# A CHILD_SA of a tunnel. charon knows it as `<tunnel>.<child>~<generation>`.
CHILD_NAME_PATTERN = r"^[a-z0-9_-]{1,31}$"
ChildName = Annotated[str, StringConstraints(pattern=CHILD_NAME_PATTERN)]

# One SA of a tunnel: its IKE_SA, or the CHILD_SAs of one child.
IKE_SA = "ike"
SA_PATTERN = r"^(ike|child=[a-z0-9_-]{1,31})$"
SaReference = Annotated[str, StringConstraints(pattern=SA_PATTERN)]

# A secret or an authority, as policies refer to it.
SecretName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

# The public half of a user nkey: U and 55 base32 characters.
NKEY_PATTERN = r"^U[A-Z2-7]{55}$"
UserNkey = Annotated[str, StringConstraints(pattern=NKEY_PATTERN)]

# Base64 (standard, padded) of a raw 32-byte Ed25519 public key.
PUBLIC_KEY_PATTERN = r"^[A-Za-z0-9+/]{43}=$"
PublicKey = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN)]

Spi = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]  # an ESP SPI in hexadecimal, as tcpdump prints it


def is_name(text: str) -> bool:
    """Whether `text` may be a peer id, a tag or a policy id."""
    return _NAME.match(text) is not None and not text.endswith("\n")


def child_sa(child: str) -> SaReference:
    """The reference to the CHILD_SAs of a child."""
    return f"child={child}"


def child_of(reference: SaReference) -> str | None:
    """The child whose CHILD_SAs a reference names; None for any other text."""
    child = reference.removeprefix("child=")
    return child if child != reference and re.fullmatch(SA_PATTERN, reference) else None


def name_from_host(hostname: str) -> str:
    """Derive a peer id from a host name: `GW1.example.org` gives `gw1`; empty if the name has no valid character."""
    label = hostname.split(".", 1)[0].lower()
    return _NOT_NAME.sub("-", label).strip("-")[:63]


def tunnel_name(own: str, peer: str) -> str:
    """The name of the tunnel derived for two peers, the same at both ends."""
    return "+".join(sorted((own, peer)))
