"""Errors of keys, tokens and signed documents. A docstring is the default message, with its remedy."""

from typing import ClassVar


class TrustError(Exception):
    """A key, a token or a document is not accepted."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or (type(self).__doc__ or "").strip())


class InvalidKeyError(TrustError):
    """The key is malformed, of another kind, or its file is open to others: create it again, with mode 0600."""


class InvalidTokenError(TrustError):
    """The token is malformed, unsigned, or signed by another key."""


class DocumentRefusedError(TrustError):
    """A document is refused. `code` is the name of its counter."""

    code: ClassVar[str] = "refused"


class MalformedDocumentError(DocumentRefusedError):
    """Headers or payload are not those of a signed document."""

    code = "malformed"


class DocumentTooLargeError(DocumentRefusedError):
    """The document is larger than any genuine one."""

    code = "too-large"


class NotRepublishedError(DocumentRefusedError):
    """A live message lacks the headers that a stream adds when it republishes: it has another origin."""

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
