"""Errors of the bus library. A docstring is the default message, with its remedy."""

from collections.abc import Mapping
from typing import ClassVar


class BusError(Exception):
    """The bus failed."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or (type(self).__doc__ or "").strip())


class MissingSetting(BusError):
    """A setting is missing: set the named environment variable."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"{variable} is not set: see docs/interfaces.md")
        self.variable = variable


class BadSetting(BusError):
    """A setting is missing or wrong: correct the named environment variables."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        told = "; ".join(f"{variable} {reason}" for variable, reason in reasons.items())
        super().__init__(f"{told} (see docs/interfaces.md)")


class BadKey(BusError):
    """The key is malformed, of another kind, or its file is open to others: make it again, with mode 0600."""


class BadToken(BusError):
    """The token is malformed, unsigned, or signed by somebody else."""


class NotConnected(BusError):
    """The bus is away: it is reconnected to for ever; wait for `wait_connected()`."""


class NotStored(BusError):
    """The stream did not acknowledge the message within the retries: publish again with the same id."""


class BatchConflict(NotStored):
    """The batch was refused because an id is known already or a subject has moved on: compare what is stored."""


class DocumentRefused(BusError):
    """A document is not believed. `code` is what counters are named after."""

    code: ClassVar[str] = "refused"


class MalformedDocument(DocumentRefused):
    """Headers or payload are not those of a signed document."""

    code = "malformed"


class TooLarge(DocumentRefused):
    """The document is larger than any genuine one."""

    code = "too-large"


class NotRepublished(DocumentRefused):
    """A live message lacks what a stream adds when it republishes: somebody else made it."""

    code = "not-republished"


class WrongSubject(DocumentRefused):
    """The document names another subject, reader or peer than the one it arrived on."""

    code = "wrong-subject"


class WrongSigner(DocumentRefused):
    """The document is signed in a role that does not sign such documents."""

    code = "wrong-signer"


class BadSignature(DocumentRefused):
    """The signature does not verify."""

    code = "bad-signature"


class WrongEpoch(DocumentRefused):
    """The document belongs to another epoch than the one that the trust root announced."""

    code = "wrong-epoch"


class OlderRevision(DocumentRefused):
    """The document is older than the one held."""

    code = "older-revision"
