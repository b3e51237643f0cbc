"""Errors of the VICI conversation with charon. A docstring is the message, with the remedy."""

from warren_agent.errors import DriverError, DriverUnavailableError


class ViciError(DriverError):
    """The conversation with charon's VICI socket failed."""


class ViciProtocolError(ViciError):
    """charon sent bytes that are no VICI packet: check that the socket is charon's VICI socket."""


class ViciLimitError(ViciError):
    """A name, a value or a message is larger than VICI can carry: shorten the tunnel's configuration."""


class ViciClosedError(ViciError, DriverUnavailableError):
    """charon closed the VICI connection: it stopped or restarted; the agent connects again by itself."""


class ViciTimeoutError(ViciError, DriverUnavailableError):
    """charon did not answer in time: it is overloaded or stuck; the agent connects again by itself."""


class ViciUnknownCommandError(ViciError):
    """This charon does not know the command: it is older than the agent expects."""


class ViciUnknownEventError(ViciError):
    """This charon does not know the event: it is older than the agent expects."""


class ViciCommandError(ViciError):
    """charon refused a command."""

    def __init__(self, command: str, errmsg: str) -> None:
        super().__init__(f"{command}: {errmsg}")
        self.command = command
        self.errmsg = errmsg
