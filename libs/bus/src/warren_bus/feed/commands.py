"""What the machine asks of its shell. A reply or a failure is handed back with the request that it belongs to.

`round` numbers the synchronisations: an answer of an earlier round is dropped unread.
"""

from dataclasses import dataclass

from warren_contracts.subjects import Audience


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Follow a live subject."""

    subject: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Follow it no longer."""

    subject: str


@dataclass(frozen=True, slots=True)
class AskWhoami:
    """Call `rpc.agent.<peer>.whoami`."""

    round: int


@dataclass(frozen=True, slots=True)
class GetPolicy:
    """Direct Get of a reader's policy set."""

    round: int
    reader: Audience


@dataclass(frozen=True, slots=True)
class GetSecret:
    """Direct Get of our sealed bundle."""

    round: int


@dataclass(frozen=True, slots=True)
class AskPage:
    """Call `rpc.agent.<peer>.directory` for a reader's records after a peer id."""

    round: int
    reader: Audience
    after: str = ""


Request = AskWhoami | GetPolicy | GetSecret | AskPage
Command = Subscribe | Unsubscribe | Request
