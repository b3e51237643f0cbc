"""Errors of the VPN server. The docstring is the default message, with its remedy."""

from warren_cli.errors import CliError


class ServerError(CliError):
    """The VPN server cannot work like this."""


class ServerSettingError(ServerError):
    """A setting of the server's configuration is invalid: correct the field that the message names."""


class NetworkError(ServerError):
    """The host does not take an interface, a rule or a setting of the server."""


class ControlSocketError(ServerError):
    """The server's control socket does not answer: is the server running?"""
