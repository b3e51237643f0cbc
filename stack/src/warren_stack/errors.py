"""Errors of the stack. The docstring is the default message, with its remedy."""

from warren_cli.errors import CliError


class LocalError(CliError):
    """A part of this machine's stack did not start or stop. Its log is in DATA/log."""


class AlreadyRunningError(LocalError):
    """Another `warren up` uses this data folder. Stop it first, or name another folder with --data."""
