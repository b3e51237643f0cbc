"""Errors of VICI, the interface to charon. A docstring is the message, with the remedy."""

from collections.abc import Iterable

from warren_agent.errors import DriverError, DriverUnavailableError

# Commands and registrations by the step of reaching charon that they belong to; any other is a step of its own name.
STEPS = {
    "stats": "version",
    "get-algorithms": "version",
    "list-sas": "list",
    "list-sa": "list",
    "list-conns": "list",
    "list-conn": "list",
    "get-conns": "list",
    "get-keys": "list",
    "get-pools": "list",
}


class ViciError(DriverError):
    """A command on charon's VICI socket failed."""


class ViciProtocolError(ViciError):
    """charon sent bytes that are not a VICI packet: check that the socket is charon's VICI socket."""


class ViciLimitError(ViciError):
    """A name, a value or a message is larger than VICI can carry: shorten the tunnel's configuration."""


class ViciClosedError(ViciError, DriverUnavailableError):
    """connect: charon closed the VICI connection: it stopped or restarted; the agent reconnects by itself."""

    def __init__(self, detail: str = "") -> None:
        DriverUnavailableError.__init__(self, detail, "connect")


class ViciTimeoutError(ViciError, DriverUnavailableError):
    """charon did not answer in time: it is overloaded or stuck; the agent reconnects by itself."""

    def __init__(self, command: str, limit_s: float) -> None:
        step = STEPS.get(command, command)
        detail = f"{step}: no answer from charon in {limit_s:g} s ({command}): it is overloaded or stuck"
        DriverUnavailableError.__init__(self, detail, step)


class KeyRefusedError(ViciError, DriverUnavailableError):
    """load-key: charon refuses the agent's key: load the plugins that the detail names."""

    def __init__(self, errmsg: str, plugins: Iterable[str]) -> None:
        remedy = "; ".join(f"load the plugin {plugin}" for plugin in plugins) or "its log says why"
        DriverUnavailableError.__init__(
            self, f"load-key: charon refuses the agent's Ed25519 key ({errmsg}): {remedy}", "load-key"
        )


class ViciUnknownCommandError(ViciError):
    """This charon does not know the command: it is older than the agent expects."""


class ViciUnknownEventError(ViciError):
    """This charon does not know the event: it is older than the agent expects."""


class ViciCommandError(ViciError):
    """charon refused a command."""

    def __init__(self, command: str, errmsg: str) -> None:
        self.step = STEPS.get(command, command)
        super().__init__(f"{command}: {errmsg}")
        self.command = command
        self.errmsg = errmsg
