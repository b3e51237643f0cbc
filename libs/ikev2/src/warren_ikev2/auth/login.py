"""A user's attempt to log in by EAP, as the responder's caller receives it, and its verdict. Pure; no secret is in a repr."""

from dataclasses import dataclass, field
from typing import ClassVar

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.auth.mschapv2 import authenticator_response, master_session_key, nt_response

REFUSED = "invalid user name or password"


@dataclass(frozen=True, slots=True)
class GtcAttempt:
    """A password as it was typed, sent inside the protected IKE_SA (RFC 3748, 5.6)."""

    method: ClassVar[str] = "eap-gtc"
    user: str
    """As the peer sent it: any characters, up to 1,024 bytes."""
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mschapv2Proof:
    """What only the owner of the NT hash computes: our answer to the peer, and the key for AUTH."""

    message: str = field(repr=False)
    msk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mschapv2Attempt:
    """The response to an MSCHAPv2 challenge (RFC 2759, 4)."""

    method: ClassVar[str] = "eap-mschapv2"
    user: str
    """Without a domain, as the response was computed."""
    server_challenge: bytes = field(repr=False)
    peer_challenge: bytes = field(repr=False)
    response: bytes = field(repr=False)

    def verify(self, nt_hash: bytes) -> Mschapv2Proof | None:
        """Verify the response with the user's NT hash (RFC 2759, 8.3); None: another password. About 0.2 ms."""
        expected = nt_response(self.server_challenge, self.peer_challenge, self.user, nt_hash)
        if not bytes_eq(expected, self.response):
            return None
        return Mschapv2Proof(
            authenticator_response(nt_hash, self.response, self.peer_challenge, self.server_challenge, self.user),
            master_session_key(nt_hash, self.response),
        )


LoginAttempt = GtcAttempt | Mschapv2Attempt


@dataclass(frozen=True, slots=True)
class LoginVerdict:
    """The caller's decision. An accepted `Mschapv2Attempt` needs the proof that its `verify` returned."""

    accepted: bool
    reason: str = REFUSED
    """For our own events and logs. The peer only learns that it was refused."""
    proof: Mschapv2Proof | None = field(default=None, repr=False)
    user: str = ""
    """The name of the user who has logged in; empty: as the client wrote it."""
    undecided: bool = False
    """Refused without a look at user and password, as when too many wait: the peer learns that (TEMPORARY_FAILURE), so that it
    tries again instead of asking for another password."""
