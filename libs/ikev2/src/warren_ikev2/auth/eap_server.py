"""The server's side of an EAP conversation (RFC 3748): identity, then GTC or, if the client declines it, MSCHAPv2.

    IDENTITY     response Identity       request GTC                      GTC
    GTC          response GTC            (verdict)                        VERDICT
                 NAK with MSCHAPv2       request MSCHAPv2 challenge       MSCHAPV2
    MSCHAPV2     response                (verdict)                        VERDICT
    VERDICT      GTC accepted            Success                          SUCCEEDED
                 MSCHAPv2 accepted       request MSCHAPv2 success         CONFIRMED
                 GTC refused             Failure                          FAILED
                 MSCHAPv2 refused        request MSCHAPv2 failure         REJECTED
    CONFIRMED    response success        Success                          SUCCEEDED
    REJECTED     any response            Failure                          FAILED

Anything else fails. The requests do not depend on whether the user exists, so that they do not show it. The verdict on a
password is the caller's: `handle` returns no packet, `attempt` is set, and `conclude` continues.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

from warren_ikev2.auth.eap import EapCode, EapPacket, EapType
from warren_ikev2.auth.login import GtcAttempt, LoginAttempt, LoginVerdict, Mschapv2Attempt
from warren_ikev2.auth.mschapv2 import (
    CHALLENGE_SIZE,
    MschapV2Code,
    build_challenge,
    build_failure,
    build_success,
    parse_response,
)
from warren_ikev2.credentials import EapTrust
from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.randomness import RandomBytes

MAX_FIELD = 1024  # bytes of a user's name or password


class Round(Enum):
    """The state of the conversation."""

    IDENTITY = "identity"
    GTC = "gtc"
    MSCHAPV2 = "mschapv2"
    VERDICT = "verdict"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class EapAuthenticator:
    """See the module."""

    def __init__(self, trust: EapTrust, random_bytes: RandomBytes) -> None:
        self._trust = trust
        self._identifier = random_bytes(1)[0]
        self._challenge = random_bytes(CHALLENGE_SIZE)
        self._round = Round.IDENTITY
        self.attempt: LoginAttempt | None = None
        """What waits for a verdict, or was decided."""
        self.user: str | None = None
        """Proven once `succeeded`."""
        self.name = "eap-gtc"
        self.msk: bytes | None = None
        """The method's key; GTC derives none."""
        self.rejected = False
        """Whether a verdict refused the attempt."""

    @property
    def succeeded(self) -> bool:
        """Whether the user proved the password."""
        return self._round == Round.SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the conversation is over without success."""
        return self._round == Round.FAILED

    def start(self) -> EapPacket:
        """The first request."""
        return EapPacket(EapCode.REQUEST, self._identifier, EapType.IDENTITY)

    def handle(self, packet: EapPacket) -> EapPacket | None:
        """The next request, Success or Failure; None: `attempt` waits for a verdict."""
        if packet.code != EapCode.RESPONSE or packet.identifier != self._identifier or len(packet.data) > MAX_FIELD:
            return self._fail()
        handler = _HANDLERS.get((self._round, packet.type))
        try:
            return handler(self, packet.data) if handler is not None else self._fail()
        except MalformedMessageError:
            return self._fail()

    def conclude(self, verdict: LoginVerdict) -> EapPacket:
        """Continue with the verdict. Fails if none is awaited, or if it accepts MSCHAPv2 without a proof."""
        if self._round != Round.VERDICT:
            return self._fail()
        self.rejected = not verdict.accepted
        self.user = verdict.user or self.user
        if isinstance(self.attempt, GtcAttempt):
            return self._succeed() if verdict.accepted else self._fail()
        if not verdict.accepted or verdict.proof is None:
            self._round = Round.REJECTED
            return self._request(EapType.MSCHAPV2, build_failure(self._next(), self._challenge))
        self._round = Round.CONFIRMED
        self.msk = verdict.proof.msk
        return self._request(EapType.MSCHAPV2, build_success(self._next(), verdict.proof.message))

    def _identify(self, data: bytes) -> EapPacket:
        self.user = data.decode("utf-8", "replace")
        self._round = Round.GTC
        self._next()
        return self._request(EapType.GTC, b"Password: ")

    def _receive_password(self, data: bytes) -> None:
        self._round = Round.VERDICT
        self.attempt = GtcAttempt(self.user or "", data.decode("utf-8", "replace"))

    def _negotiate(self, data: bytes) -> EapPacket:
        """RFC 3748, 5.3.1: the client names the methods that it accepts instead; MSCHAPv2 is the only other one here."""
        if not self._trust.mschapv2 or EapType.MSCHAPV2 not in data:
            return self._fail()
        self._round, self.name = Round.MSCHAPV2, "eap-mschapv2"
        return self._request(EapType.MSCHAPV2, build_challenge(self._next(), self._challenge, self._trust.server_name))

    def _receive_response(self, data: bytes) -> EapPacket | None:
        response = parse_response(data)
        name, identity = without_domain(response.name), without_domain(self.user or "")
        if response.identifier != self._identifier or name != identity:
            return self._fail()
        self._round, self.user = Round.VERDICT, name
        self.attempt = Mschapv2Attempt(name, self._challenge, response.peer_challenge, response.nt_response)
        return None

    def _receive_confirmation(self, data: bytes) -> EapPacket:
        return self._succeed() if data[:1] == bytes([MschapV2Code.SUCCESS]) else self._fail()

    def _end(self, data: bytes) -> EapPacket:
        return self._fail()

    def _next(self) -> int:
        self._identifier = (self._identifier + 1) & 0xFF
        return self._identifier

    def _request(self, kind: EapType, data: bytes) -> EapPacket:
        return EapPacket(EapCode.REQUEST, self._identifier, kind, data)

    def _succeed(self) -> EapPacket:
        self._round = Round.SUCCEEDED
        return EapPacket(EapCode.SUCCESS, self._identifier)

    def _fail(self) -> EapPacket:
        self._round = Round.FAILED
        return EapPacket(EapCode.FAILURE, self._identifier)


def without_domain(user: str) -> str:
    """RFC 2759, 4: the name that MSCHAPv2 hashes has no domain before a backslash."""
    return user.rsplit("\\", 1)[-1]


_HANDLERS: Mapping[tuple[Round, int | None], Callable[[EapAuthenticator, bytes], EapPacket | None]] = MappingProxyType(
    {
        (Round.IDENTITY, EapType.IDENTITY): EapAuthenticator._identify,
        (Round.GTC, EapType.GTC): EapAuthenticator._receive_password,
        (Round.GTC, EapType.NAK): EapAuthenticator._negotiate,
        (Round.MSCHAPV2, EapType.MSCHAPV2): EapAuthenticator._receive_response,
        (Round.CONFIRMED, EapType.MSCHAPV2): EapAuthenticator._receive_confirmation,
        (Round.REJECTED, EapType.MSCHAPV2): EapAuthenticator._end,
    }
)
