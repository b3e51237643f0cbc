"""Sign and verify documents. The signed bytes are `warren_contracts.documents.signing_input`.

A verification needs three things to agree: the subject on which the document arrived (or of the request that it replies to),
the role that signs such subjects, and the key that the trust document gives to this role. The order within a subject is (epoch,
revision) only.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from warren_contracts.base import BIGINT_MAX
from warren_contracts.documents import (
    HEADER_EPOCH,
    HEADER_REVISION,
    HEADER_SIGNATURE,
    HEADER_SIGNER,
    TRUST_SUBJECT,
    SignedDocument,
    SignerRole,
    TrustDocument,
    signing_input,
)
from warren_trust.errors import (
    InvalidKeyError,
    InvalidSignatureError,
    MalformedDocumentError,
    OlderRevisionError,
    WrongEpochError,
    WrongSignerError,
    WrongSubjectError,
)
from warren_trust.keys import KeyPair, raw_public_key, verify

# Which role signs which subjects: by the third token of the subject.
_ROLE_OF: dict[str, SignerRole] = {
    "policy": SignerRole.POLICY,
    "directory": SignerRole.REGISTRY,
    "digest": SignerRole.REGISTRY,
    "secret": SignerRole.REGISTRY,
    "rpc": SignerRole.REGISTRY,
    "trust": SignerRole.ROOT,
}

Version = tuple[int, int]  # (epoch, revision): the only order of documents


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A document as it arrived: headers parsed, nothing verified yet."""

    subject: str
    epoch: int
    revision: int
    payload: bytes
    signer: SignerRole
    signature: bytes

    @property
    def version(self) -> Version:
        return (self.epoch, self.revision)


def role_of(subject: str) -> SignerRole:
    """The role that signs the documents of a subject; raises WrongSubjectError when there is none."""
    tokens = subject.split(".", 3)
    role = _ROLE_OF.get(tokens[2]) if len(tokens) >= 3 and tokens[:2] == ["warren", "v1"] else None
    if role is None:
        raise WrongSubjectError(f"no role signs documents on {subject[:128]!r}")
    return role


class Signer:
    """Signs documents in one role."""

    def __init__(self, key: KeyPair, role: SignerRole) -> None:
        self._key = key
        self.role = role

    @property
    def public_key(self) -> str:
        """The public half as the trust document writes it."""
        return self._key.public_base64

    def headers(self, subject: str, epoch: int, revision: int, payload: bytes) -> dict[str, str]:
        """The headers of a signed message; WrongSignerError when this role does not sign such subjects."""
        return {
            HEADER_SIGNATURE: self._signature(subject, epoch, revision, payload),
            HEADER_SIGNER: self.role.value,
            HEADER_EPOCH: str(epoch),
            HEADER_REVISION: str(revision),
        }

    def document(self, subject: str, epoch: int, revision: int, payload: str) -> SignedDocument:
        """A signed document to be sent inside another message."""
        return SignedDocument(
            subject=subject,
            epoch=epoch,
            revision=revision,
            payload=payload,
            signer=self.role,
            signature=self._signature(subject, epoch, revision, payload.encode()),
        )

    def _signature(self, subject: str, epoch: int, revision: int, payload: bytes) -> str:
        if role_of(subject) is not self.role:
            raise WrongSignerError(f"{self.role.value} does not sign {subject}")
        return base64.b64encode(self._key.sign(signing_input(subject, epoch, revision, payload))).decode()


def parse_signed(subject: str, headers: Mapping[str, str] | None, payload: bytes) -> SignedMessage:
    """A signed message by its headers; `subject` is where it was stored, or the subject of the request. MalformedDocumentError."""
    given = headers or {}
    try:
        return SignedMessage(
            subject=subject,
            epoch=_number(given[HEADER_EPOCH]),
            revision=_number(given[HEADER_REVISION]),
            payload=payload,
            signer=SignerRole(given[HEADER_SIGNER]),
            signature=_signature_bytes(given[HEADER_SIGNATURE]),
        )
    except (KeyError, ValueError):
        raise MalformedDocumentError("the headers of a signed document are missing or malformed") from None


def stated_version(headers: Mapping[str, str] | None) -> Version:
    """The unverified epoch and revision of the headers: enough to detect that a document is not newer. MalformedDocumentError."""
    given = headers or {}
    try:
        return _number(given[HEADER_EPOCH]), _number(given[HEADER_REVISION])
    except (KeyError, ValueError):
        raise MalformedDocumentError("epoch or revision are missing or malformed") from None


def from_document(document: SignedDocument) -> SignedMessage:
    """The signed message of a document inside another message."""
    try:
        signature = _signature_bytes(document.signature)
    except ValueError:
        raise MalformedDocumentError from None
    return SignedMessage(
        document.subject, document.epoch, document.revision, document.payload.encode(), document.signer, signature
    )


def to_document(message: SignedMessage) -> SignedDocument:
    """A message as a document to be sent inside another one; MalformedDocumentError when its payload is not UTF-8."""
    try:
        payload = message.payload.decode()
    except UnicodeDecodeError:
        raise MalformedDocumentError("the payload is not UTF-8") from None
    return SignedDocument(
        subject=message.subject, epoch=message.epoch, revision=message.revision, payload=payload,
        signer=message.signer, signature=base64.b64encode(message.signature).decode(),
    )  # fmt: skip


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(text[:32])
    number = int(text)
    if number > BIGINT_MAX:
        raise ValueError(text)
    return number


def _signature_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(raw) != 64:
        raise ValueError
    return raw


class Verifier:
    """Verifies documents by the keys of one trust document. It holds no state of earlier documents: the caller passes `newer_than`."""

    def __init__(self, trust: TrustDocument) -> None:
        self.trust = trust
        self._keys = {
            SignerRole.POLICY: raw_public_key(trust.policy),
            SignerRole.REGISTRY: raw_public_key(trust.registry),
        }

    def verify(self, message: SignedMessage, newer_than: Version | None = None) -> None:
        """Raise a DocumentRefusedError unless the message is authentic and newer than `newer_than` (if given).

        Cheap refusals come first: signer, epoch and revision cost no signature.
        """
        role = role_of(message.subject)
        if message.signer is not role or role not in self._keys:
            raise WrongSignerError(f"{message.subject} is signed by {message.signer.value}, not by {role.value}")
        if message.epoch != self.trust.epoch:
            raise WrongEpochError(f"{message.subject} is of epoch {message.epoch}; now is {self.trust.epoch}")
        if newer_than is not None and message.version <= newer_than:
            raise OlderRevisionError(f"{message.subject}: {message.version} is not newer than {newer_than}")
        _check(self._keys[role], message)


def verify_trust(root: str, document: SignedDocument, held: TrustDocument | None = None) -> TrustDocument:
    """The trust document of a reply, if the root (base64, pinned at enrolment) signed it and it is not older than `held`."""
    message = from_document(document)
    if message.subject != TRUST_SUBJECT:
        raise WrongSubjectError(f"a trust document is on {TRUST_SUBJECT}")
    if message.signer is not SignerRole.ROOT:
        raise WrongSignerError("only the root signs trust documents")
    if held is not None and message.version < (held.epoch, held.revision):
        raise OlderRevisionError("the trust document is older than the one held")
    _check(raw_public_key(root), message)
    try:
        trust = TrustDocument.model_validate_json(message.payload)
        Verifier(trust)  # both keys decode
    except (ValidationError, InvalidKeyError):
        raise MalformedDocumentError("the trust document cannot be read") from None
    if (trust.epoch, trust.revision) != message.version:
        raise MalformedDocumentError("the trust document differs from its envelope")
    return trust


def _check(key: bytes, message: SignedMessage) -> None:
    if "\n" in message.subject:
        raise WrongSubjectError("a subject must not contain a line feed")
    signed = signing_input(message.subject, message.epoch, message.revision, message.payload)
    try:
        verify(key, signed, message.signature)
    except InvalidSignatureError:
        raise InvalidSignatureError(f"the signature of {message.subject} does not verify") from None
