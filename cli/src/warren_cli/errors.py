"""What the command can say went wrong. The docstring is the default message, with its remedy."""


class CliError(Exception):
    """The command could not do what was asked."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class LocalError(CliError):
    """A part of this machine's stack did not start or stop. Its log is in DATA/log."""


class AlreadyRunningError(LocalError):
    """Another `warren up` uses this data folder. Stop it first, or name another folder with --data."""
