"""Frozen signing input and signatures: a change here makes every released agent reject documents."""

import hashlib

import pytest

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
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer, Verifier, parse_signed, verify_trust

# The key of a role is the Ed25519 key whose seed is the SHA-256 of the role's name. Epoch 1, revision 42.
VECTORS = [
    (
        SignerRole.POLICY, "warren.v1.policy.tag=hub", '{"reader":"tag=hub"}',
        "lwIXJvd6ohBkwtgMJ4TizLxTcYAX4euZTENCBM3g4xWb58dHU2HCGEeWoREhxjoZO8eZ2WA7kq8O9mxKCaN8BQ==",
    ),
    (
        SignerRole.REGISTRY, "warren.v1.directory.all.gw1", '{"peer":"gw1"}',
        "bea3mk8S4Uv3lQ3g7VG+8pzXVbE9JmIjRrKPOpWOBrbwy01oWzDzZYBZEs9Lr/3b3UrOF+Zp4TmKIoLVBddMDg==",
    ),
    (
        SignerRole.REGISTRY, "warren.v1.rpc.agent.gw1.whoami", '{"peer":"gw1"}',
        "Q/9W0sO7hRS+IGyZe8ZdTActYA0BizS8Ni2GTDNndVSRVwhjFf+V+6SXvJQwmtxO7jZsAesDq81O7JKosHvCBQ==",
    ),
    (
        SignerRole.ROOT, "warren.v1.trust", '{"epoch":1}',
        "kknJJLEWK88l6ICqzLFlIWEgOEnH4OTIEuyeG8ExD2wAepJbA8+umR5r+a00rCoBzKJ8VejzCSb5ETAH2A8ZDg==",
    ),
]  # fmt: skip


def key(role: SignerRole) -> KeyPair:
    return KeyPair(KeyKind.SIGNING, hashlib.sha256(role.value.encode()).digest())


def test_signed_bytes_are_frozen() -> None:
    assert signing_input("warren.v1.policy.all", 2, 7, b"{}") == b"warren-document-v1\nwarren.v1.policy.all\n2\n7\n{}"


def test_headers_are_frozen() -> None:
    assert (HEADER_SIGNATURE, HEADER_SIGNER, HEADER_EPOCH, HEADER_REVISION) == (
        "Warren-Signature", "Warren-Signer", "Warren-Epoch", "Warren-Revision",
    )  # fmt: skip


@pytest.mark.parametrize(("role", "subject", "payload", "signature"), VECTORS)
def test_signatures_are_frozen(role: SignerRole, subject: str, payload: str, signature: str) -> None:
    headers = Signer(key(role), role).headers(subject, 1, 42, payload.encode())
    assert headers == {
        HEADER_SIGNATURE: signature, HEADER_SIGNER: role.value, HEADER_EPOCH: "1", HEADER_REVISION: "42",
    }  # fmt: skip
    assert Signer(key(role), role).document(subject, 1, 42, payload).signature == signature


@pytest.mark.parametrize(
    ("role", "subject", "payload", "signature"), [row for row in VECTORS if row[0] is not SignerRole.ROOT]
)
def test_frozen_signatures_verify(role: SignerRole, subject: str, payload: str, signature: str) -> None:
    trust = TrustDocument(
        epoch=1,
        revision=1,
        policy=key(SignerRole.POLICY).public_base64,
        registry=key(SignerRole.REGISTRY).public_base64,
    )
    headers = {HEADER_SIGNATURE: signature, HEADER_SIGNER: role.value, HEADER_EPOCH: "1", HEADER_REVISION: "42"}
    Verifier(trust).verify(parse_signed(subject, headers, payload.encode()), newer_than=(1, 41))


def test_trust_document_of_a_released_writer_is_accepted() -> None:
    trust = TrustDocument(
        epoch=1,
        revision=42,
        policy=key(SignerRole.POLICY).public_base64,
        registry=key(SignerRole.REGISTRY).public_base64,
    )
    newer_writer = trust.model_dump_json()[:-1] + ',"a_field_of_the_future":1}'
    document = Signer(key(SignerRole.ROOT), SignerRole.ROOT).document(TRUST_SUBJECT, 1, 42, newer_writer)
    transferred = SignedDocument.model_validate_json(document.model_dump_json())
    assert verify_trust(key(SignerRole.ROOT).public_base64, transferred) == trust
