"""The base of the command's errors. The docstring is the default message, with its remedy."""


class CliError(Exception):
    """The command could not do what was asked."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))
