"""Failures in words: who is at fault, and what to do. Pure."""

from signal import Signals

from warren_ikev2.errors import (
    AuthenticationError,
    IkeError,
    InternalAddressFailureError,
    NoProposalChosenError,
    PeerDeadError,
    PeerNotRespondingError,
    SessionEndedByPeerError,
    TemporaryFailureError,
)
from warren_vpn.client.servers import ServerCandidate
from warren_vpn.client.states import ClientTrigger
from warren_vpn.client.verify import ServerRefusedError
from warren_vpn.profiles.profile import ClientProfile, PasswordLogin

_REASONS = {
    ClientTrigger.TUN_REMOVED: "another program removed the TUN device",
    ClientTrigger.SESSION_LOST: "the session ended",
    ClientTrigger.PREFERRED_ANSWERS: "the preferred server is back",
}


def reason_of(event: ClientTrigger) -> str:
    """Why the client reconnects."""
    return _REASONS.get(event, event.value)


def data_process_ended(exit_code: int | None) -> str:
    """What happens when the data process ends by itself."""
    by_signal = exit_code is not None and -exit_code in frozenset(Signals)
    how = f"by {Signals(-(exit_code or 0)).name}" if by_signal else f"with exit code {exit_code}"
    return f"the data process has ended {how}; another one is started, and takes over with new keys"


def replaced(profile: ClientProfile) -> str:
    """Why the client stops when the server has replaced its session."""
    return (
        f"{profile.identity} has logged in elsewhere, and the server has ended this session; give each device a user of its own,"
        ' or set same_user = "keep" on the server'
    )


def explain(candidate: ServerCandidate, profile: ClientProfile, error: Exception) -> str:
    """Why an attempt failed."""
    match error:
        case AuthenticationError(by_peer=True, peer_proven=False) if isinstance(profile.login, PasswordLogin):
            said = (
                f" refused the login before it proved that it is {profile.server_identity}: it has no users with passwords, or somebody"
                " else answers there"
            )
        case AuthenticationError(by_peer=True):
            said = f" refused the login of {profile.identity}: {error}"
        case AuthenticationError():
            said = f" did not prove that it is {profile.server_identity}: {error}; check the server and the profile"
        case ServerRefusedError():
            said = f" is refused: {error}"
        case InternalAddressFailureError():
            said = " has no free address; its pool is exhausted"
        case NoProposalChosenError():
            said = (
                " does not negotiate with this host: it has no user, does not admit this host's address (allow_from), or supports none"
                " of the profile's algorithms; its log says which"
            )
        case TemporaryFailureError():
            said = " cannot verify logins now, as when too many clients log in at once; its log says why"
        case PeerNotRespondingError():
            said = f": {error}: no server runs there, or UDP {_ports(candidate)} do not pass"
        case OSError(strerror=str(reason)):
            said = f": {reason}"
        case _:
            said = f": {error}"
    return f"{candidate}{said}"


def _ports(candidate: ServerCandidate) -> str:
    return " and ".join(map(str, candidate.endpoint.ports))


def ended(reason: IkeError) -> str:
    """Why a session is over."""
    match reason:
        case PeerDeadError():
            return "the server does not answer any more"
        case SessionEndedByPeerError():
            return "the server has ended the session"
        case _:
            return str(reason)
