"""Passwords from standard input, or from the terminal without echo. Never from an argument, which every process can read."""

import getpass
import sys

from warren_vpn.users.errors import UserError

MAX_LINE = 4096


def read_password(what: str, *, confirm: bool) -> str:
    """Read a password: from the terminal, twice if it is a new one, or else the first line of standard input.

    UserError: nothing is given, or the two differ.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise UserError(f"{what}: more than {MAX_LINE} characters on standard input")
        password = line.rstrip("\r\n")
        if not password:
            raise UserError(f"{what}: none given; write it to standard input, such as: pass show vpn | warren vpn ...")
        return password
    password = getpass.getpass(f"{what}: ")
    if confirm and getpass.getpass(f"{what} again: ") != password:
        raise UserError(f"{what}: the two differ; nothing is changed")
    if not password:
        raise UserError(f"{what}: must not be empty")
    return password
