"""Errors of the registry. Their docstring is the default detail, with its remedy."""

from warren_contracts.problems import ConflictError, ForbiddenError, WarrenError


class OperatorNameTakenError(ConflictError):
    """An operator's token of this name exists already: choose another name, or remove that one first."""

    code = "operator-name-taken"


class PeerIdTakenError(ConflictError):
    """Another key holds this peer id: choose another id, or revoke the peer first."""

    code = "peer-id-taken"


class AlreadyEnrolledError(ConflictError):
    """This key is enrolled under another peer id: create a new key, or use that id."""

    code = "already-enrolled"


class PeerRevokedError(ForbiddenError):
    """This key was revoked for good: create a new key and join with a new token."""

    code = "peer-revoked"


class SubnetConflictError(ConflictError):
    """A protected network overlaps another peer's: correct one of the two."""

    code = "subnet-conflict"


class IdentityConflictError(ConflictError):
    """The IKE identity belongs to another peer: announce another one."""

    code = "identity-conflict"


class IdentityInUseError(ConflictError):
    """Another host uses the identity of this peer: enrol one of the two as a peer of its own."""

    code = "identity-in-use"


class AnnouncementRateError(WarrenError):
    """This peer has changed its announcement too often: retry in some seconds."""

    code = "announced-too-often"
    title = "Announcement rate exceeded"
    status = 429


class TunnelOrderRateError(WarrenError):
    """A tunnel of this peer was ordered to rekey or restart in the last seconds: retry in some seconds."""

    code = "ordered-too-often"
    title = "Order rate exceeded"
    status = 429


class DatabaseRolledBackError(Exception):
    """The database was restored while the registry ran: it restarts and compares its state with the bus."""
