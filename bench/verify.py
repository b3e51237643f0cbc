"""`verify`: what one agent pays in CPU to believe one policy set: signature, order, and the parse into models, in full."""

from __future__ import annotations

import time
from collections.abc import Iterable

from harness import MIN_RUNS, Bench, Row, absolute
from pydantic import TypeAdapter

from warren_contracts import subjects
from warren_contracts.documents import SignerRole, TrustDocument
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer, Verifier, parse_signed

TARGET_US = 150.0
SETS_A_RUN = 2_000  # simulated agents; each verifies and parses its own bytes with its own verifier
READER = subjects.tag_reader("branch")
SUBJECT = subjects.policy(READER)


def _policy_set(policies: int) -> bytes:
    policy = {
        "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]},
        "crypto": {"profile": "cnsa1"},
    }
    published = tuple(
        PublishedPolicy(revision=n + 1, policy=Policy.model_validate(policy | {"id": f"policy-{n}"}))
        for n in range(policies)
    )
    document = PolicySet(reader=READER, epoch=1, revision=policies, batch=(READER,), policies=published)
    return document.model_dump_json().encode()


def _measure(policies: int) -> Row:
    key = KeyPair.generate(KeyKind.SIGNING)
    payload = _policy_set(policies)
    headers = Signer(key, SignerRole.POLICY).headers(SUBJECT, 1, policies, payload)
    trust = TrustDocument(epoch=1, revision=1, policy=key.public_base64, registry=key.public_base64)
    parse = TypeAdapter(PolicySet).validate_json
    samples = []
    for _ in range(MIN_RUNS):
        agents = [(Verifier(trust), dict(headers), bytes(bytearray(payload))) for _ in range(SETS_A_RUN)]
        before = time.process_time()
        for verifier, own_headers, own_payload in agents:
            verifier.verify(parse_signed(SUBJECT, own_headers, own_payload), newer_than=(1, policies - 1))
            parse(own_payload)
        samples.append((time.process_time() - before) / SETS_A_RUN * 1e6)
    name = "verify" if policies == 1 else f"verify_{policies}_policies"
    note = (
        f"CPU of one agent; a set of {policies} hub-spoke polic{'y' if policies == 1 else 'ies'}, {len(payload)} bytes"
    )
    return absolute(name, samples, "µs", better="lower", target=TARGET_US if policies == 1 else None, note=note)


def run() -> Iterable[Row]:
    yield _measure(1)
    yield _measure(10)


BENCHES = (Bench(("verify", "verify_10_policies"), run, "verify and parse one policy set"),)
