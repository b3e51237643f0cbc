"""Errors of the bus library. A docstring is the default message, with its remedy."""

from collections.abc import Mapping


class BusError(Exception):
    """The bus failed."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or (type(self).__doc__ or "").strip())


class MissingSettingError(BusError):
    """A setting is missing: set the named environment variable."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"{variable} is not set: see docs/interfaces.md")
        self.variable = variable


class InvalidSettingError(BusError):
    """A setting is missing or invalid: correct the named environment variables."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        named = "; ".join(f"{variable} {reason}" for variable, reason in reasons.items())
        super().__init__(f"{named} (see docs/interfaces.md)")


class NotConnectedError(BusError):
    """The bus is unavailable: reconnects go on forever; wait for `wait_connected()`."""


class NotStoredError(BusError):
    """The stream did not acknowledge the message within the retries: publish again with the same id."""


class BatchConflictError(NotStoredError):
    """The batch was refused because an id is known already or a subject has a newer message: compare what is stored."""


class StreamRefusedError(BusError):
    """The stream refused the message: correct what the server's words name."""

    def __init__(self, description: str, code: int, err_code: int = 0) -> None:
        """`code` as in HTTP; `err_code` is JetStream's own, such as 10071 (wrong last sequence)."""
        super().__init__(description)
        self.description = str(self)
        self.code = code
        self.err_code = err_code
