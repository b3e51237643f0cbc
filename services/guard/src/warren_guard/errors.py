"""What can go wrong in the guard. The docstring of a class is its message, with the remedy."""


class GuardError(Exception):
    """The guard could not do what was asked; its log says more."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or (self.__doc__ or "").strip())


class NftError(GuardError):
    """nft refuses the table: install nftables, and load the kernel's nf_tables and nf_conntrack."""


class IpError(GuardError):
    """ip(8) refuses a change of links, routes or IPsec: install iproute2, and load the kernel's modules."""


class MissingCapabilityError(GuardError):
    """The guard has no CAP_NET_ADMIN: start it by its systemd unit, or as root."""


class TooManyElementsError(GuardError):
    """There is more protected traffic than one table may hold: use larger networks, or fewer children."""


class BadRequestError(GuardError):
    """The request does not fit its schema."""


class BadStateError(GuardError):
    """The guard's state folder cannot be read or written."""


class BadSettingError(GuardError):
    """A setting is invalid."""
