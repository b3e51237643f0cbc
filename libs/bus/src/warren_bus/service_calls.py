"""Signed calls between services.

A message can reach the subject of a service's RPC without the right to publish there: as the reply to a request that named it, by
the delivery subject of a consumer, from a changed stream. Permissions do not cover these, so every call is signed by its caller:

    warren-call-v1 LF subject LF id LF deadline in ms LF payload

with a key that is derived from the seed of the service's bus user (`warren_trust.keys.call_key`). `warren_service.service_callers`
verifies it, and refuses a repeated id. Calls of agents and operators come from other accounts, where the server names the caller.
"""

import base64
import os

from warren_contracts import subjects
from warren_trust.keys import KeyPair

HEADER_CALLER = "Warren-Caller"  # the public key of the caller, base64
HEADER_CALL = "Warren-Call"  # the id of the call, 32 hexadecimal digits
HEADER_CALL_SIGNATURE = "Warren-Call-Signature"
HEADER_DEADLINE = "Warren-Deadline"  # ms since 1970, by the caller's clock: the hosts of services are synchronised

_RPC = f"{subjects.VERSION}.rpc."
_OF_AGENTS = (f"{_RPC}agent.", f"{_RPC}enrol.")


def is_service_call(subject: str) -> bool:
    """Whether only services call this subject."""
    return subject.startswith(_RPC) and not subject.startswith(_OF_AGENTS)


def signed_bytes(subject: str, call: str, deadline: str, payload: bytes) -> bytes:
    """What a signature covers."""
    return f"warren-call-v1\n{subject}\n{call}\n{deadline}\n".encode() + payload


def sign_call(key: KeyPair, subject: str, deadline_ms: int, payload: bytes) -> dict[str, str]:
    """The headers of one call; a repeated call needs new ones."""
    call, deadline = os.urandom(16).hex(), str(deadline_ms)
    signature = key.sign(signed_bytes(subject, call, deadline, payload))
    return {
        HEADER_CALLER: key.public_base64,
        HEADER_CALL: call,
        HEADER_DEADLINE: deadline,
        HEADER_CALL_SIGNATURE: base64.b64encode(signature).decode(),
    }
