"""Signed documents: what is believed and, by type, what is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts import subjects
from warren_contracts.documents import (
    HEADER_EPOCH,
    HEADER_REVISION,
    HEADER_SIGNATURE,
    HEADER_SIGNER,
    TRUST_SUBJECT,
    SignerRole,
    TrustDocument,
)
from warren_trust.errors import (
    DocumentRefusedError,
    InvalidSignatureError,
    MalformedDocumentError,
    OlderRevisionError,
    WrongEpochError,
    WrongSignerError,
    WrongSubjectError,
)
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer, Verifier, from_document, parse_signed, role_of, verify_trust

KEYS = {role: KeyPair(KeyKind.SIGNING, bytes([number]) * 32) for number, role in enumerate(SignerRole)}
SIGNERS = {role: Signer(key, role) for role, key in KEYS.items()}
TRUST = TrustDocument(
    epoch=1, revision=1, policy=KEYS[SignerRole.POLICY].public_base64, registry=KEYS[SignerRole.REGISTRY].public_base64
)
VERIFIER = Verifier(TRUST)
SUBJECT = subjects.policy("tag=hub")
ROOT = KEYS[SignerRole.ROOT].public_base64


def signed(subject: str = SUBJECT, epoch: int = 1, revision: int = 5, payload: bytes = b"{}") -> dict[str, str]:
    return SIGNERS[role_of(subject)].headers(subject, epoch, revision, payload)


def test_genuine_document_is_believed() -> None:
    message = parse_signed(SUBJECT, signed(), b"{}")
    VERIFIER.verify(message)
    VERIFIER.verify(message, newer_than=(1, 4))
    assert message.version == (1, 5)


@pytest.mark.parametrize(
    ("subject", "payload", "changed", "refusal"),
    [
        (subjects.policy("tag=spoke"), b"{}", {}, InvalidSignatureError),
        (SUBJECT, b"{ }", {}, InvalidSignatureError),
        (SUBJECT, b"{}", {HEADER_REVISION: "6"}, InvalidSignatureError),
        (SUBJECT, b"{}", {HEADER_SIGNATURE: base64.b64encode(bytes(64)).decode()}, InvalidSignatureError),
        (SUBJECT, b"{}", {HEADER_EPOCH: "2"}, WrongEpochError),
        (SUBJECT, b"{}", {HEADER_SIGNER: "registry"}, WrongSignerError),
        (SUBJECT, b"{}", {HEADER_SIGNER: "root"}, WrongSignerError),
        (subjects.directory("all", "gw1"), b"{}", {}, WrongSignerError),
        ("warren.v1.event.policy.changed.x", b"{}", {}, WrongSubjectError),
        ("live." + SUBJECT, b"{}", {}, WrongSubjectError),
    ],
)
def test_verify_refuses(
    subject: str, payload: bytes, changed: dict[str, str], refusal: type[DocumentRefusedError]
) -> None:
    message = parse_signed(subject, {**signed(), **changed}, payload)
    with pytest.raises(refusal):
        VERIFIER.verify(message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (HEADER_SIGNATURE, "!!"),
        (HEADER_SIGNATURE, "AAAA"),
        (HEADER_SIGNATURE, ""),
        (HEADER_SIGNER, "nobody"),
        (HEADER_EPOCH, "-1"),
        (HEADER_EPOCH, "1.0"),
        (HEADER_EPOCH, "٣"),
        (HEADER_REVISION, "9" * 30),
        (HEADER_REVISION, "9223372036854775808"),
        (HEADER_REVISION, ""),
    ],
)
def test_malformed_headers_are_refused(name: str, value: str) -> None:
    with pytest.raises(MalformedDocumentError):
        parse_signed(SUBJECT, {**signed(), name: value}, b"{}")


@pytest.mark.parametrize("missing", [HEADER_SIGNATURE, HEADER_SIGNER, HEADER_EPOCH, HEADER_REVISION])
def test_missing_header_is_refused(missing: str) -> None:
    headers = signed()
    del headers[missing]
    with pytest.raises(MalformedDocumentError):
        parse_signed(SUBJECT, headers, b"{}")


@pytest.mark.parametrize("held", [(1, 5), (1, 6), (2, 0)])
def test_document_that_is_not_newer_is_refused(held: tuple[int, int]) -> None:
    with pytest.raises(OlderRevisionError):
        VERIFIER.verify(parse_signed(SUBJECT, signed(), b"{}"), newer_than=held)


def test_signer_keeps_to_its_role() -> None:
    with pytest.raises(WrongSignerError):
        SIGNERS[SignerRole.POLICY].headers(subjects.digest("all"), 1, 1, b"{}")


@given(flip=st.integers(min_value=0, max_value=64 * 8 - 1))
def test_any_changed_bit_of_the_signature_is_refused(flip: int) -> None:
    headers = signed()
    raw = bytearray(base64.b64decode(headers[HEADER_SIGNATURE]))
    raw[flip // 8] ^= 1 << (flip % 8)
    headers[HEADER_SIGNATURE] = base64.b64encode(bytes(raw)).decode()
    with pytest.raises(InvalidSignatureError):
        VERIFIER.verify(parse_signed(SUBJECT, headers, b"{}"))


@given(
    headers=st.dictionaries(
        st.sampled_from([HEADER_SIGNATURE, HEADER_SIGNER, HEADER_EPOCH, HEADER_REVISION]), st.text()
    )
)
def test_hostile_headers_give_typed_refusals_only(headers: dict[str, str]) -> None:
    with pytest.raises(DocumentRefusedError):
        VERIFIER.verify(parse_signed(SUBJECT, headers, b"{}"))


def trust_document(epoch: int, revision: int) -> TrustDocument:
    return TRUST.model_copy(update={"epoch": epoch, "revision": revision})


def test_trust_is_signed_by_the_root_alone() -> None:
    newer = trust_document(2, 3)
    document = SIGNERS[SignerRole.ROOT].document(TRUST_SUBJECT, 2, 3, newer.model_dump_json())
    assert verify_trust(ROOT, document, TRUST) == newer
    with pytest.raises(InvalidSignatureError):
        verify_trust(KEYS[SignerRole.POLICY].public_base64, document)
    with pytest.raises(OlderRevisionError):
        verify_trust(ROOT, document, trust_document(2, 4))


def test_trust_that_contradicts_its_envelope_is_refused() -> None:
    document = SIGNERS[SignerRole.ROOT].document(TRUST_SUBJECT, 3, 1, trust_document(2, 1).model_dump_json())
    with pytest.raises(MalformedDocumentError):
        verify_trust(ROOT, document)


def test_trust_that_cannot_be_read_is_refused() -> None:
    document = SIGNERS[SignerRole.ROOT].document(TRUST_SUBJECT, 1, 1, '{"epoch": 1}')
    with pytest.raises(MalformedDocumentError):
        verify_trust(ROOT, document)


def test_document_inside_a_message_verifies_alike() -> None:
    subject = subjects.directory("tag=hub", "gw1")
    document = SIGNERS[SignerRole.REGISTRY].document(subject, 1, 7, '{"peer":"gw1"}')
    VERIFIER.verify(from_document(document))
    with pytest.raises(InvalidSignatureError):
        VERIFIER.verify(from_document(document.model_copy(update={"payload": "{}"})))


NUMBERS = st.integers(1, 4)


@given(st.lists(st.tuples(st.sampled_from(["trust", "set"]), NUMBERS, NUMBERS), max_size=30))
def test_in_whatever_order_genuine_documents_come_nothing_goes_back(seen: list[tuple[str, int, int]]) -> None:
    trust, held = TRUST, (0, 0)
    for kind, epoch, revision in seen:
        before = (trust.epoch, trust.revision), held
        try:
            if kind == "trust":
                text = trust_document(epoch, revision).model_dump_json()
                trust = verify_trust(
                    ROOT, SIGNERS[SignerRole.ROOT].document(TRUST_SUBJECT, epoch, revision, text), trust
                )
            else:
                message = parse_signed(SUBJECT, signed(epoch=epoch, revision=revision), b"{}")
                Verifier(trust).verify(message, newer_than=held)
                held = message.version
        except (OlderRevisionError, WrongEpochError):
            assert kind == "set" or (epoch, revision) < before[0]
            assert kind == "trust" or epoch != trust.epoch or (epoch, revision) <= before[1]
        assert ((trust.epoch, trust.revision), held) >= before
        assert held[0] <= trust.epoch
