"""Signed documents, and the exact bytes that a signature covers.

A signature is detached and sent in headers. It covers the subject, the epoch, the revision and the payload, so a
document cannot be moved to another subject, replayed as newer, or changed. Reply subjects are not permission-checked by
NATS, so these signatures also protect RPC replies (their subject is the subject of the request).
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from warren_contracts.addresses import EndpointText, IPNetwork
from warren_contracts.base import Document
from warren_contracts.names import PeerId, PublicKey, Tag
from warren_contracts.problems import InvalidField
from warren_contracts.subjects import Audience

HEADER_SIGNATURE = "Warren-Signature"  # base64 of 64 bytes
HEADER_SIGNER = "Warren-Signer"  # one of SignerRole
HEADER_EPOCH = "Warren-Epoch"
HEADER_REVISION = "Warren-Revision"

# of a directory page: about 200 kB; a page of large records is limited by size first (pages.fit_page)
MAX_PAGE_RECORDS = 200


class SignerRole(StrEnum):
    """Whose key signed a document."""

    ROOT = "root"  # trust documents only
    POLICY = "policy"  # policy sets
    REGISTRY = "registry"  # records, digests, whoami, pages, secrets


def signing_input(subject: str, epoch: int, revision: int, payload: bytes) -> bytes:
    """The bytes that a document's signature covers. A subject contains no line feed, so the parts are unambiguous."""
    return b"warren-document-v1\n%s\n%d\n%d\n" % (subject.encode(), epoch, revision) + payload


class SignedDocument(Document):
    """A signed document inside another message (a directory page, an enrolment reply)."""

    subject: str
    epoch: int
    revision: int
    payload: str  # the JSON text exactly as signed
    signer: SignerRole
    signature: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]


ServerUrl = Annotated[str, StringConstraints(max_length=300)]
CertificateText = Annotated[str, StringConstraints(max_length=8_192)]  # PEM


class TrustDocument(Document):
    """Which keys sign what, how the bus is reached, and the current epoch. Signed by the root only, for `warren.v1.trust`.

    `servers` (URLs) and `authorities` (the CAs that vouch for them, PEM) are followed by agents, so that the bus can move and its CA
    can be replaced; an empty one changes nothing.
    """

    epoch: int
    revision: int
    policy: PublicKey
    registry: PublicKey
    servers: Annotated[tuple[ServerUrl, ...], Field(max_length=16)] = ()
    authorities: Annotated[tuple[CertificateText, ...], Field(max_length=4)] = ()


TRUST_SUBJECT = "warren.v1.trust"


class ReaderDigest(Document):
    """The state that a reader should have, to detect a lost last message. Published every minute on `warren.v1.digest.<reader>`.

    `directory_hash` is the hexadecimal SHA-256 over the lines `<peer> <revision>` (sorted, each ended by a line feed) of
    the records that are not withdrawn.
    """

    reader: Audience
    epoch: int
    revision: int  # grows with every digest
    policy_revision: int  # 0: no set was ever published
    directory_count: int
    directory_hash: str
    tombstones_reclaimed: int = 0  # records withdrawn before this revision are no longer published
    trust_revision: int = 0  # of the newest trust document of this epoch; 0: not stated


class Whoami(Document):
    """Identity of the calling peer, what it may read, and the state of each of its readers."""

    peer: PeerId
    epoch: int
    revision: int  # of the peer's row: an older answer is refused
    tags: tuple[Tag, ...]
    trust: SignedDocument
    digests: tuple[ReaderDigest, ...] = ()


class DirectoryPageRequest(Document):
    """Request the records of one reader after a peer id (exclusive), in order of peer ids."""

    reader: Audience
    after: str = ""


class DirectoryPage(Document):
    """Records of one reader, in order of peer ids. The page itself is signed, so that it also proves what is absent.

    Every record of the reader up to `revision`, and within the page's range of peer ids, is on it.
    """

    reader: Audience
    after: str = ""  # of the request that this answers
    epoch: int
    revision: int
    records: Annotated[tuple[SignedDocument, ...], Field(max_length=MAX_PAGE_RECORDS)]
    next_after: str | None = None  # None: this was the last page


class AnnounceReply(Document):
    """The peer's revision, and whether the announcement changed anything.

    `refused` are announced networks that conflict with another peer or a policy; the rest of the announcement is in force.
    """

    revision: int
    changed: bool
    refused: tuple[InvalidField, ...] = ()


class EnrolRequest(Document, defer_build=True):
    """Sent with a join token on `warren.v1.rpc.enrol.<nkey>`; the connection is authenticated by the nkey."""

    peer: PeerId
    hostname: Annotated[str, StringConstraints(max_length=255)] = ""
    token: Annotated[str, Field(repr=False)]
    # What the peer will announce. If the token does not allow it, the request is refused before a use is counted.
    endpoints: Annotated[tuple[EndpointText, ...], Field(max_length=16)] = ()
    subnets: Annotated[tuple[IPNetwork, ...], Field(max_length=64)] = ()


class EnrolReply(Document, defer_build=True):
    """Accepted: reconnect without the token. The trust document must chain to the root that the token named."""

    peer: PeerId
    tags: tuple[Tag, ...]
    epoch: int
    root: PublicKey
    trust: SignedDocument
    enrolled_at: datetime
