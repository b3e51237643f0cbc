"""What can go wrong with the host."""

from warren_cli.errors import CliError


class HostError(CliError):
    """A change of this host failed. The message names the change, the reason and the remedy."""


class UnresolvedNameError(CliError):
    """A server's name has no address now. The message names it and the reason; the client retries."""


class JournalError(HostError):
    """The journal cannot be used."""


class ClientRunningError(JournalError):
    """Another `warren vpn client` runs on this host. Stop it with `warren vpn down`, and its --state if it has another folder."""
