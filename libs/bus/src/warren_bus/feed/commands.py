"""Commands of the machine to its shell. A reply or a failure is handed back with the request that it belongs to.

`sync` numbers the synchronisations: a reply to an earlier one is dropped.
"""

from dataclasses import dataclass

from warren_contracts.subjects import Audience


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to a live subject."""

    subject: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe from a live subject."""

    subject: str


@dataclass(frozen=True, slots=True)
class RequestWhoami:
    """Call `rpc.agent.<peer>.whoami`."""

    sync: int


@dataclass(frozen=True, slots=True)
class GetPolicySet:
    """Direct Get of a reader's policy set."""

    sync: int
    reader: Audience


@dataclass(frozen=True, slots=True)
class GetSecret:
    """Direct Get of our sealed bundle."""

    sync: int


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Call `rpc.agent.<peer>.directory` for a reader's records after a peer id."""

    sync: int
    reader: Audience
    after: str = ""


Request = RequestWhoami | GetPolicySet | GetSecret | RequestPage
Command = Subscribe | Unsubscribe | Request
