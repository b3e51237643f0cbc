"""Why a negotiation failed, read in charon's log: the fallback where neither error-notify nor VICI's `alert` is there.

The lines are English text and no API: they are those of strongSwan 5.9.8 at level 1 and pinned by a test with a real charon.
"""

import re
from typing import NamedTuple

from warren_contracts.status import ReasonCode

_LINES: tuple[tuple[re.Pattern[str], ReasonCode], ...] = tuple(
    (re.compile(pattern), code)
    for pattern, code in (
        (r"received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built", ReasonCode.PROPOSAL_MISMATCH_CHILD),
        (r"received NO_PROPOSAL_CHOSEN (notify error|error notify)", ReasonCode.PROPOSAL_MISMATCH_IKE),
        (r"received TS_UNACCEPTABLE notify, no CHILD_SA built", ReasonCode.TS_MISMATCH),
        (r"received AUTHENTICATION_FAILED (notify error|error notify)", ReasonCode.LOCAL_AUTH_FAILED),
        (r"no (shared|private) key found for ", ReasonCode.LOCAL_AUTH_FAILED),
        (r"no trusted .* public key found for ", ReasonCode.PEER_AUTH_FAILED),
        (r"tried \d+ shared keys? for .* but MAC mismatched", ReasonCode.PEER_AUTH_FAILED),
        (r"constraint check failed: ", ReasonCode.PEER_AUTH_FAILED),
        (
            r"no issuer certificate found|subject certificate invalid|certificate was revoked",
            ReasonCode.CERTIFICATE_INVALID,
        ),
        (r"retransmit \d+ of request ", ReasonCode.PEER_NOT_ANSWERING),
        (r"giving up after \d+ retransmits|peer not responding", ReasonCode.PEER_UNREACHABLE),
        (r"unable to install (IPsec policies|inbound|outbound)|error installing route", ReasonCode.INSTALL_FAILED),
    )
)
# Any line that matters holds one of these: cheaper than parsing every line of a busy charon.
_NEEDLES = (
    b"notify",
    b"no ",
    b"MAC mismatched",
    b"constraint",
    b"certificate",
    b"giving up",
    b"retransmit ",
    b"not responding",
    b"install",
)


class LogReason(NamedTuple):
    """What a line of the log says."""

    code: ReasonCode
    detail: str


def may_have_reason(payload: bytes) -> bool:
    """Whether a `log` event, not yet parsed, can hold a reason at all."""
    return any(needle in payload for needle in _NEEDLES)


def parse_log_line(line: str) -> LogReason | None:
    """The reason in a line of the log; None for all other lines."""
    return next((LogReason(code, line) for pattern, code in _LINES if pattern.search(line)), None)
