"""Errors of the user file. The docstring is the default message, with its remedy."""

from warren_cli.errors import CliError


class UserError(CliError):
    """The user cannot be changed like this."""


class UserFileError(UserError):
    """The user file cannot be used."""
