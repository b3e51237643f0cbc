"""Verify and parse received documents. Everything that is wrong with one raises a DocumentRefusedError.

Each function verifies the signature first and parses afterwards, so that no parser sees unauthenticated bytes, and checks that
the payload agrees with the envelope (reader, peer, epoch, revision).
"""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from warren_bus.feed.state import FeedIdentity, SealedBundle
from warren_contracts import subjects
from warren_contracts.base import read
from warren_contracts.documents import DirectoryPage, ReaderDigest, SignedDocument, TrustDocument, Whoami
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import MAX_POLICY_SET, PolicySet
from warren_trust.errors import DocumentTooLargeError, MalformedDocumentError, OlderRevisionError, WrongSubjectError
from warren_trust.signing import SignedMessage, Verifier, Version, parse_signed, verify_trust

# Bytes of a payload, each several times what a genuine one has.
MAX_RECORD = 64 * 1024  # 64 subnets, 16 endpoints and a capability list have some 8 kB
MAX_DIGEST = 8 * 1024
MAX_WHOAMI = 256 * 1024  # 66 readers' digests have some 20 kB
MAX_PAGE = 1_000_000  # the server's max_payload
MAX_SECRET = 256 * 1024

STATUS_NO_MESSAGE = "404"

ModelT = TypeVar("ModelT", bound=BaseModel)
ReaderT = TypeVar("ReaderT", PolicySet, ReaderDigest)
Headers = Mapping[str, str] | None


def is_absent(headers: Headers) -> bool:
    """Whether a Direct Get found nothing. Other statuses have no signature and are refused as documents."""
    return (headers or {}).get("Status") == STATUS_NO_MESSAGE


def _verified(
    verifier: Verifier, subject: str, headers: Headers, payload: bytes, limit: int, newer_than: Version | None = None
) -> SignedMessage:
    message = _envelope(subject, headers, payload, limit)
    verifier.verify(message, newer_than)
    return message


def _envelope(subject: str, headers: Headers, payload: bytes, limit: int) -> SignedMessage:
    if len(payload) > limit:
        raise DocumentTooLargeError(f"{subject}: {len(payload)} bytes, at most {limit}")
    return parse_signed(subject, headers, payload)


def _parse(message: SignedMessage, model: type[ModelT]) -> ModelT:
    try:
        return read(model, message.payload)
    except ValidationError as error:
        raise MalformedDocumentError(f"{message.subject}: {error.error_count()} fields cannot be read") from None


def _require_version(message: SignedMessage, epoch: int, revision: int) -> None:
    if (epoch, revision) != message.version:
        raise MalformedDocumentError(f"{message.subject}: epoch or revision differs from the signed header")


def _refuse_older(message: SignedMessage, held: Version | None) -> None:
    if held is not None and message.version < held:
        raise OlderRevisionError(f"{message.subject}: {message.version} is older than {held}")


def read_policy_set(
    verifier: Verifier, reader: str, headers: Headers, payload: bytes, newer_than: Version | None = None
) -> PolicySet:
    """Verify and parse a reader's policy set."""
    message = _verified(verifier, subjects.policy(reader), headers, payload, MAX_POLICY_SET, newer_than)
    return _of_reader(message, PolicySet, reader)


def read_record(
    verifier: Verifier, subject: str, headers: Headers, payload: bytes, newer_than: Version | None = None
) -> PeerRecord:
    """Verify and parse a peer's record on a live subject."""
    return _record(_verified(verifier, subject, headers, payload, MAX_RECORD, newer_than))


def _record(message: SignedMessage) -> PeerRecord:
    record = _parse(message, PeerRecord)
    _require_version(message, record.epoch, record.revision)
    if message.subject.rsplit(".", 1)[-1] != record.peer:
        raise WrongSubjectError(f"a record of {record.peer} on {message.subject}")
    return record


def read_digest(
    verifier: Verifier, reader: str, headers: Headers, payload: bytes, newer_than: Version | None = None
) -> ReaderDigest:
    """Verify and parse a reader's digest."""
    message = _verified(verifier, subjects.digest(reader), headers, payload, MAX_DIGEST, newer_than)
    return _of_reader(message, ReaderDigest, reader)


def _of_reader(message: SignedMessage, model: type[ReaderT], reader: str) -> ReaderT:
    document = _parse(message, model)
    _require_version(message, document.epoch, document.revision)
    if document.reader != reader:
        raise WrongSubjectError(f"a {model.__name__} of {document.reader} on the subject of {reader}")
    return document


def read_secret(
    verifier: Verifier, peer: str, headers: Headers, payload: bytes, newer_than: Version | None = None
) -> SealedBundle:
    """Verify the sealed bundle of a peer; it is not opened."""
    message = _verified(verifier, subjects.secret(peer), headers, payload, MAX_SECRET, newer_than)
    try:
        return SealedBundle(epoch=message.epoch, revision=message.revision, payload=payload.decode())
    except UnicodeDecodeError:
        raise MalformedDocumentError from None


def read_whoami(
    identity: FeedIdentity, held: TrustDocument, headers: Headers, payload: bytes, not_older: Version | None
) -> tuple[Whoami, TrustDocument]:
    """Verify and parse the reply to whoami and the trust document in it.

    The pinned root signed the trust document, which names the key that signed the reply: so it is verified first. Neither may be
    older than the one held.
    """
    message = _envelope(subjects.rpc_agent(identity.peer, "whoami"), headers, payload, MAX_WHOAMI)
    # Not verified yet: only its trust document is used, which carries its own signature
    whoami = _parse(message, Whoami)
    trust = verify_trust(identity.root, whoami.trust, held)
    Verifier(trust).verify(message)
    _require_version(message, whoami.epoch, whoami.revision)
    _refuse_older(message, not_older)
    if whoami.peer != identity.peer:
        raise WrongSubjectError(f"the reply to whoami is for {whoami.peer}, not {identity.peer}")
    return whoami, trust


def read_page(
    verifier: Verifier, peer: str, reader: str, after: str, headers: Headers, payload: bytes, not_older: Version | None
) -> tuple[DirectoryPage, tuple[PeerRecord, ...], int]:
    """Verify and parse a page of a reader's directory: the page, its records, and how many of them cannot be read.

    The page's own signature, by the key that signs records too, covers all of them; theirs are not verified again. A record
    that is too large or cannot be read (of a newer version) is skipped: one peer must not hide all the others.
    """
    message = _verified(verifier, subjects.rpc_agent(peer, "directory"), headers, payload, MAX_PAGE)
    _refuse_older(message, not_older)
    page = _parse(message, DirectoryPage)
    _require_version(message, page.epoch, page.revision)
    if (page.reader, page.after) != (reader, after):
        raise WrongSubjectError(f"a page of {page.reader} after {page.after!r}, requested was {reader} after {after!r}")
    if page.next_after is not None and not page.records:
        raise MalformedDocumentError("an empty page that is not the last")
    found = [_page_record(reader, document, message.epoch) for document in page.records]
    records = tuple(record for record in found if record is not None)
    return page, records, len(found) - len(records)


def _page_record(reader: str, document: SignedDocument, epoch: int) -> PeerRecord | None:
    payload = document.payload.encode()
    message = SignedMessage(document.subject, document.epoch, document.revision, payload, document.signer, b"")
    if len(payload) > MAX_RECORD:
        return None
    try:
        record = _record(message)
    except MalformedDocumentError:
        return None
    if document.subject != subjects.directory(reader, record.peer) or document.epoch > epoch:
        raise WrongSubjectError(f"{document.subject} does not belong on this page")
    return record
