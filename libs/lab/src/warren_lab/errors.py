"""Errors of the lab. The docstring is the default message, with its remedy."""


class LabError(Exception):
    """The lab could not make or use a namespace or a daemon: it needs root, or a user namespace with capabilities."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class CommandFailedError(LabError):
    """A command of the lab ended with an error; its last lines say why."""


class TimedOutError(LabError):
    """A condition was not met within its limit."""
