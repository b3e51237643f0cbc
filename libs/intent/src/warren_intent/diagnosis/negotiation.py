"""Causes in a negotiation: what one end proposes and the other refuses, with the values of both. Pure.

The initiator of a failed authentication learns nothing but AUTHENTICATION_FAILED (RFC 7296, 2.21.2), by design: which of the two is
wrong is in the report of the end that refused.
"""

import re
from collections.abc import Callable, Iterable

from warren_contracts.auth import RawKeyAuth
from warren_contracts.explanation import Cause
from warren_contracts.selectors import TrafficSelector
from warren_contracts.status import ReasonCode
from warren_contracts.tunnel import Tunnel
from warren_intent.diagnosis.situation import End, Situation
from warren_intent.diagnosis.words import Diagnosis, proposals_of

MAX_SKEW_S = 120.0  # a certificate of a CA that issues for minutes is not valid yet, or not any more
_AUTHENTICATION = (ReasonCode.PEER_AUTH_FAILED, ReasonCode.LOCAL_AUTH_FAILED)
_IDENTITY = re.compile(
    r"identity '(?P<required>[^']+)' required|IDr? '[^']+' does not match|unknown identity", re.IGNORECASE
)
_CERTIFICATES: tuple[tuple[re.Pattern[str], Cause, str, str], ...] = (
    (re.compile(r"revoked", re.IGNORECASE), Cause.CERTIFICATE_REVOKED, "was revoked", "Issue a new certificate for {far}."),
    (
        re.compile(r"expired|not valid yet|invalid \(valid from|certificate invalid", re.IGNORECASE), Cause.CERTIFICATE_EXPIRED,
        "has expired or is not valid yet", "Renew the certificate of {far}, and compare the clocks of both ends.",
    ),
    (
        re.compile(r"no issuer|untrusted|unknown ca|no trusted", re.IGNORECASE), Cause.CERTIFICATE_UNKNOWN,
        "is not of an authority that {end} trusts", "Give the CA certificate of {far} to {end}, or name the right authority.",
    ),
)  # fmt: skip


def clock_skew(it: Situation) -> Diagnosis | None:
    """An authentication fails while a clock is wrong: certificates have times."""
    failed = it.with_reason(ReasonCode.CERTIFICATE_INVALID)
    if failed is None:
        return None
    for end in it.ends:
        if abs(end.clock_skew_s) > MAX_SKEW_S:
            return Diagnosis(
                Cause.CLOCK_SKEW,
                f"{failed.peer} does not accept a certificate ({failed.detail or 'no detail'}), and the clock of {end.peer} is"
                f" {end.clock_skew_s:+.0f} s off.",
                f"Set the clock of {end.peer}: `timedatectl set-ntp true`.",
            )
    return None


def certificate(it: Situation) -> Diagnosis | None:
    """A certificate is refused."""
    end = it.with_reason(ReasonCode.CERTIFICATE_INVALID)
    if end is None:
        return None
    far = it.far_name(end)
    for pattern, cause, says, action in _CERTIFICATES:
        if pattern.search(end.detail):
            return Diagnosis(
                cause, f"The certificate of {far} {says.format(end=end.peer)} ({end.detail}).",
                action.format(end=end.peer, far=far),
            )  # fmt: skip
    return Diagnosis(
        Cause.CERTIFICATE_INVALID,
        f"{end.peer} does not accept the certificate of {far} ({end.detail or 'no detail'}).",
        f"Compare the certificate of {far} with what {end.peer} requires of it.",
    )


def authentication(it: Situation) -> Diagnosis | None:
    """An end refuses the other's identity or its proof."""
    end = it.with_reason(*_AUTHENTICATION)
    if end is None:
        return None
    # The end that refuses says why; where only the refused one reports, the other is named without a reason.
    refusing = end.reason is ReasonCode.PEER_AUTH_FAILED
    judge, refused = (end.peer, it.far_name(end)) if refusing else (it.far_name(end), end.peer)
    judging = end if refusing else it.other(end)
    expected = _expected(judging.config) if judging is not None else ""
    cause = Cause.IDENTITY_MISMATCH if _IDENTITY.search(end.detail) else Cause.AUTHENTICATION_FAILED
    what = "the identity" if cause is Cause.IDENTITY_MISMATCH else "the authentication"
    return Diagnosis(
        cause,
        f"{judge} refuses {what} of {refused} ({end.detail or 'no detail'})"
        + (f"; it expects {expected}." if expected else "."),
        f"Compare what {refused} presents with what {judge} expects: `warren peers show {refused}` for identity and key."
        if it.other(end) is not None
        else f"Compare identities and keys with the configuration of {it.far_name(end)}.",
    )


def _expected(config: Tunnel | None) -> str:
    if config is None:
        return ""
    auth = config.link.remote_auth
    key = f" with the key {auth.public_key[:12]}..." if isinstance(auth, RawKeyAuth) else ""
    return f"identity {auth.identity}{key}"


def proposals(it: Situation) -> Diagnosis | None:
    """No proposal is common to both ends."""
    end = it.with_reason(ReasonCode.PROPOSAL_MISMATCH_IKE)
    if end is not None:
        return _mismatch(it, end, Cause.PROPOSAL_MISMATCH_IKE, "IKE", _ike_proposals, "crypto.ike")
    end = it.with_reason(ReasonCode.PROPOSAL_MISMATCH_CHILD)
    if end is not None:
        return _mismatch(it, end, Cause.PROPOSAL_MISMATCH_CHILD, "ESP", _esp_proposals, "crypto.esp")
    return None


def _mismatch(
    it: Situation, end: End, cause: Cause, level: str, offered: Callable[[Tunnel], str], field: str
) -> Diagnosis:
    caller = _caller(it, end)
    answerer = it.other(caller)
    far = it.far_name(caller)
    offers = offered(caller.config) if caller.config is not None else "unknown proposals"
    policy = caller.config.policy if caller.config is not None else "its policy"
    if answerer is None:
        says = f"{caller.peer} offers {offers} for {level}, and {far} accepts none of them, or has no connection for {caller.peer}."
        action = f"Change `{field}` of policy {policy} to what {far} accepts: `warren ike probe ADDRESS` shows it."
    else:
        accepts = offered(answerer.config) if answerer.config is not None else "unknown proposals"
        says = f"{caller.peer} offers {offers} for {level}, {answerer.peer} accepts {accepts}"
        says += _received(answerer) + "."
        action = f"Change `{field}` or `crypto.profile` of policy {policy} to algorithms that both daemons have."
        if offers == accepts:
            says += " Both derive the same, so a daemon does not hold what its agent derived, or lacks an algorithm."
            action = (
                f"`warren agent doctor` on both ends; `warren peers show {answerer.peer}` lists its daemon's plugins."
            )
    return Diagnosis(cause, says, action)


def _caller(it: Situation, otherwise: End) -> End:
    """The end that proposes."""
    return next((each for each in it.ends if each.status is not None and each.status.initiator), otherwise)


def _received(end: End) -> str:
    """What the responder says that it got."""
    return f" and reports: {end.detail}" if end.detail and end.reason is not ReasonCode.NONE else ""


def _ike_proposals(config: Tunnel) -> str:
    return proposals_of(config.link.ike.proposals)


def _esp_proposals(config: Tunnel) -> str:
    return proposals_of(dict.fromkeys(it for child in config.link.children for it in child.proposals))


def install_failed(it: Situation) -> Diagnosis | None:
    """A kernel does not take the SAs. charon answers its peer TS_UNACCEPTABLE then, so this comes before selectors."""
    end = it.with_reason(ReasonCode.INSTALL_FAILED)
    if end is None:
        return None
    return Diagnosis(
        Cause.INSTALL_FAILED,
        f"{end.peer} cannot install the negotiated SAs in its kernel or data plane ({end.detail or 'no detail'}).",
        f"On {end.peer}: look for another IPsec program with the same policies (`ip xfrm policy`), and for missing kernel modules.",
    )


def selectors(it: Situation) -> Diagnosis | None:
    """The peer agrees to no traffic selector, or to a part of them."""
    end = it.with_reason(ReasonCode.TS_MISMATCH)
    cause, words = Cause.SELECTORS_REFUSED, "no selector is common to both ends"
    if end is None:
        end = it.with_reason(ReasonCode.NARROWED)
        cause, words = Cause.NARROWED, "the peer agreed to a part of the selectors only"
    if end is None:
        return None
    caller = _caller(it, end)
    answerer = it.other(caller)
    far, other = it.far_name(end), it.other(end)
    own = _selectors(caller.config)
    theirs = _selectors(answerer.config) if answerer is not None else ""
    asks = f" {caller.peer} asks for {own}." if own else ""
    has = f" {it.far_name(caller)} has {theirs}." if theirs else ""
    detail = f" ({end.detail})" if end.detail else ""
    return Diagnosis(
        cause,
        f"Between {end.peer} and {far} {words}{detail}.{asks}{has}",
        f"Give both ends the same networks: `warren peers show {far}` for what it announces."
        if other is not None
        else f"Give {far} the same networks; where it cannot install them, it answers the same.",
    )


def _selectors(config: Tunnel | None) -> str:
    if config is None:
        return ""
    return "; ".join(f"{_texts(child.local_ts)} to {_texts(child.remote_ts)}" for child in config.link.children)


def _texts(selectors: Iterable[TrafficSelector]) -> str:
    return ", ".join(map(str, selectors))
