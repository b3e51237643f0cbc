"""Errors of the bus library. A docstring is the default message, with its remedy."""

from collections.abc import Mapping
from typing import ClassVar


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
    """A setting is missing or wrong: correct the named environment variables."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        told = "; ".join(f"{variable} {reason}" for variable, reason in reasons.items())
        super().__init__(f"{told} (see docs/interfaces.md)")


class InvalidKeyError(BusError):
    """The key is malformed, of another kind, or its file is open to others: make it again, with mode 0600."""


class InvalidTokenError(BusError):
    """The token is malformed, unsigned, or signed by somebody else."""


class NotConnectedError(BusError):
    """The bus is away: it is reconnected to for ever; wait for `wait_connected()`."""


class NotStoredError(BusError):
    """The stream did not acknowledge the message within the retries: publish again with the same id."""


class BatchConflictError(NotStoredError):
    """The batch was refused because an id is known already or a subject has moved on: compare what is stored."""


class DocumentRefusedError(BusError):
    """A document is not believed. `code` is what counters are named after."""

    code: ClassVar[str] = "refused"


class MalformedDocumentError(DocumentRefusedError):
    """Headers or payload are not those of a signed document."""

    code = "malformed"


class DocumentTooLargeError(DocumentRefusedError):
    """The document is larger than any genuine one."""

    code = "too-large"


class NotRepublishedError(DocumentRefusedError):
    """A live message lacks what a stream adds when it republishes: somebody else made it."""

    code = "not-republished"


class WrongSubjectError(DocumentRefusedError):
    """The document names another subject, reader or peer than the one it arrived on."""

    code = "wrong-subject"


class WrongSignerError(DocumentRefusedError):
    """The document is signed in a role that does not sign such documents."""

    code = "wrong-signer"


class InvalidSignatureError(DocumentRefusedError):
    """The signature does not verify."""

    code = "bad-signature"


class WrongEpochError(DocumentRefusedError):
    """The document belongs to another epoch than the one that the trust root announced."""

    code = "wrong-epoch"


class OlderRevisionError(DocumentRefusedError):
    """The document is older than the one held."""

    code = "older-revision"
