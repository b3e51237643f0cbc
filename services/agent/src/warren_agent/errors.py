"""What can go wrong in an agent. The docstring of a class is its message, with the remedy."""


class AgentError(Exception):
    """The agent could not do what was asked; its log says more."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or (self.__doc__ or "").strip().partition("\n\n")[0])


class DriverError(AgentError):
    """The driver could not do what was asked."""


class DriverUnavailableError(DriverError):
    """The IPsec daemon does not answer: check that it runs and that its control socket is where the agent looks.

    `step` is what failed, a word of the driver's own: `connect`, `version`.
    """

    def __init__(self, detail: str = "", step: str = "") -> None:
        super().__init__(detail)
        self.step = step


class ConfigRefusedError(DriverError):
    """The daemon refuses this tunnel: correct the field that the detail names."""


class UnknownTunnelError(DriverError):
    """No tunnel of that name is known to the driver: create it first."""


class UnknownDriverError(DriverError):
    """No driver of this kind is installed: choose one that --help lists."""


class GuardError(AgentError):
    """The guard could not do what was asked."""


class GuardUnavailableError(GuardError):
    """The guard does not answer: start warren-guard, and check the setting guard_socket."""


class GuardRefusedError(GuardError):
    """The guard refuses the request."""


class NotRunningError(AgentError):
    """No agent works with this state folder: start it, or give its --state."""


class VerbRefusedError(AgentError):
    """The agent refuses what was asked; the detail says why."""


class NotDeliveredError(AgentError):
    """The bus did not take the message; it is sent again when the bus returns."""


class NotEnrolledError(AgentError):
    """This host is not enrolled in a fleet: run `warren-agent enrol` with a join token."""


class EnrolmentError(AgentError):
    """The fleet did not accept this host: ask its operator for a join token that is valid and not used up."""


class BadStateError(AgentError):
    """A file in the state folder is damaged or open to others: restore it, or remove it where the message says so."""


class DamagedIdentityError(BadStateError):
    """identity.json cannot be read: enrol again, as the same peer; the key is still known to the fleet."""


class BadSettingError(AgentError):
    """A setting is wrong."""


class MissingSettingError(BadSettingError):
    """A setting is missing: see --help."""


class OtherPeerError(AgentError):
    """This host is another peer already."""


class UnresolvedNameError(AgentError):
    """A host name has no address, or no name server answers: check the name, and /etc/resolv.conf of this host."""


class AnnouncementRefusedError(AgentError):
    """The registry refuses what this host says of itself: correct --subnets or --endpoints, or the other peer's."""
