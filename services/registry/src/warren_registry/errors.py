"""Errors of the registry. Their docstring is the default detail, with its remedy."""

from warren_contracts.problems import Conflict, Forbidden, WarrenError


class JoinTokenRefused(WarrenError):
    """The join token is unknown, expired or used up: ask an operator for a new one."""

    code = "join-token-refused"
    title = "Join token refused"
    status = 401


class OperatorNameTaken(Conflict):
    """An operator's token of this name exists already: choose another name, or remove that one first."""

    code = "operator-name-taken"
    title = "Operator name taken"


class PeerIdTaken(Conflict):
    """Another key holds this peer id: choose another id, or revoke the peer first."""

    code = "peer-id-taken"
    title = "Peer id taken"


class AlreadyEnrolled(Conflict):
    """This key is enrolled under another peer id: make a new key, or keep the id."""

    code = "already-enrolled"
    title = "Already enrolled"


class PeerIsRevoked(Forbidden):
    """This key was revoked and never returns: make a new key and join with a new token."""

    code = "peer-revoked"
    title = "Peer revoked"


class SubnetConflict(Conflict):
    """A protected network overlaps another peer's: correct one of the two."""

    code = "subnet-conflict"
    title = "Subnet conflict"


class IdentityConflict(Conflict):
    """The IKE identity belongs to another peer: announce another one."""

    code = "identity-conflict"
    title = "Identity conflict"


class AnnouncedTooOften(WarrenError):
    """This peer has changed what it says of itself too often: it is taken again some seconds later."""

    code = "announced-too-often"
    title = "Announced too often"
    status = 429


class DatabaseWentBack(Exception):
    """The database was restored while the registry ran: it is started anew, and compares itself with the bus."""
