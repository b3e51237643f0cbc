"""The errors of IKEv2, with the notify type of each on the wire (RFC 7296, 2.21 and 3.10.1)."""

from typing import ClassVar

from warren_ikev2.constants import NotifyType


class IkeError(Exception):
    """IKEv2 failed. See the subclass for the remedy."""

    notify: ClassVar[NotifyType | None] = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n", 1)[0])

    @property
    def error_code(self) -> str:
        """Return a stable code for programs: the name of the notify type, else of the class."""
        return self.notify.name if self.notify is not None else type(self).__name__


class ConfigurationError(IkeError):
    """The configuration contradicts itself. Correct the field that the message names."""


class CommandError(IkeError):
    """The command is not valid in the SA's state, or names an unknown SA. See the newest events."""


class ProtocolError(IkeError):
    """The peer violates the protocol."""

    notify = NotifyType.INVALID_SYNTAX
    data: bytes = b""


class MalformedMessageError(ProtocolError):
    """A message is malformed: the peer, or a host on the path, sends bytes that are not IKEv2."""


class UnsupportedCriticalPayloadError(ProtocolError):
    """The peer sends a critical payload of an unknown type (RFC 7296, 2.5)."""

    notify = NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"critical payload of unknown type {payload_type}")
        self.data = bytes([payload_type])


class UnsupportedVersionError(ProtocolError):
    """The peer uses another major version of IKE. Configure IKEv2 there."""

    notify = NotifyType.INVALID_MAJOR_VERSION


class IntegrityError(IkeError):
    """A protected message fails its integrity check: it is dropped silently (RFC 7296, 2.21)."""


class NegotiationError(IkeError):
    """Both sides follow the protocol but do not agree."""

    notify: ClassVar[NotifyType | None] = NotifyType.NO_PROPOSAL_CHOSEN


class NoProposalChosenError(NegotiationError):
    """No common algorithms. Compare the proposals of both sides."""


class InvalidKePayloadError(NegotiationError):
    """The peer guessed another key exchange group than the one chosen; it retries with ours (RFC 7296, 1.3)."""

    notify = NotifyType.INVALID_KE_PAYLOAD

    def __init__(self, group: int) -> None:
        super().__init__(f"key exchange group {group} is required")
        self.group = group


class TsUnacceptableError(NegotiationError):
    """The traffic selectors of both sides do not overlap. Compare local and remote networks."""

    notify = NotifyType.TS_UNACCEPTABLE


class FailedCpRequiredError(NegotiationError):
    """The peer must ask for a virtual address, as the pool of this connection demands (RFC 7296, 2.19)."""

    notify = NotifyType.FAILED_CP_REQUIRED


class InternalAddressFailureError(NegotiationError):
    """No virtual address is free. Enlarge the pool, or free an address."""

    notify = NotifyType.INTERNAL_ADDRESS_FAILURE


class NoAdditionalSasError(NegotiationError):
    """The limit of CHILD_SAs in one IKE_SA is reached."""

    notify = NotifyType.NO_ADDITIONAL_SAS


class TemporaryFailureError(NegotiationError):
    """The request collides with another exchange; repeat it later (RFC 7296, 2.25)."""

    notify = NotifyType.TEMPORARY_FAILURE


class ChildSaNotFoundError(NegotiationError):
    """The CHILD_SA to be rekeyed does not exist; create a new one (RFC 7296, 2.25)."""

    notify = NotifyType.CHILD_SA_NOT_FOUND


class StateNotFoundError(NegotiationError):
    """The follow-up key exchange refers to unknown state; start again (RFC 9370, 2.2.4)."""

    notify = NotifyType.STATE_NOT_FOUND


class AuthenticationError(IkeError):
    """The peer did not prove its identity: check identities, secret, key, certificate and revocation."""

    notify = NotifyType.AUTHENTICATION_FAILED

    def __init__(self, message: str = "", *, by_peer: bool = False, peer_proven: bool = False) -> None:
        super().__init__(message)
        self.by_peer = by_peer
        """Whether the peer refused us."""
        self.peer_proven = peer_proven
        """Whether it had proven its identity before, as with EAP."""


class SessionClosedError(IkeError):
    """The session is over. Connect again; the reason is in the message and in the log."""


class SessionEndedByPeerError(SessionClosedError):
    """The peer has ended the session. Connect again; its log may say why."""


class SessionReplacedError(SessionClosedError):
    """The same user has logged in elsewhere, and the server has replaced this session. To connect again would end the other one."""


class PeerDeadError(SessionClosedError):
    """The session is over because the peer did not respond. Connect again, or to another gateway."""


class NotConnectedError(IkeError):
    """There is no session yet. Call connect() first."""


class PeerNotRespondingError(IkeError):
    """The peer does not respond. Check its address, that UDP 500 and 4500 pass, and that it runs."""


class HandshakeError(IkeError):
    """The handshake failed for another reason. See the peer's log."""


_BY_NOTIFY: dict[int, type[IkeError]] = {
    kind.notify: kind
    for kind in (
        AuthenticationError,
        NoProposalChosenError,
        TsUnacceptableError,
        FailedCpRequiredError,
        InternalAddressFailureError,
        NoAdditionalSasError,
        TemporaryFailureError,
        ChildSaNotFoundError,
    )
    if kind.notify is not None
}


def error_of_notify(notify: int | None, message: str) -> IkeError:
    """Return the error of a notify code in a response."""
    return _BY_NOTIFY.get(notify or 0, HandshakeError)(message)


class PeerRedirectError(IkeError):
    """The peer redirects to another gateway (RFC 5685). Connect there."""

    def __init__(self, gateway: str) -> None:
        super().__init__(f"the peer redirects to {gateway}")
        self.gateway = gateway


class MalformedCaptureError(IkeError):
    """The file is not a complete pcap or pcapng. Write it again, with tcpdump -w or Wireshark."""
