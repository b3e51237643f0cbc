"""What follows from facts that a gateway reports, without the models that carry them: who only shows them need not import these."""

from collections.abc import Sequence
from typing import Protocol

INTENT_STALE_S = 300.0  # s without digests after which an agent's intent counts as stale: five are missing


class IdentityHolder(Protocol):
    """A host that uses the identity of a peer."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def holds_record(self) -> bool: ...


class IntentFacts(Protocol):
    """What an agent reports of the intent that it has."""

    @property
    def intent_unconfirmed_s(self) -> float | None: ...

    @property
    def received_revision(self) -> int | None: ...

    @property
    def applied_revision(self) -> int | None: ...


def identity_in_use(hosts: Sequence[IdentityHolder]) -> str:
    """What is wrong when several hosts use one identity, and the remedy; empty where they do not."""
    if len(hosts) < 2:
        return ""
    named = "; ".join(
        f"{host.name or 'a host'} at {host.address or 'an unknown address'}"
        + (" (the record is its)" if host.holds_record else "")
        for host in hosts
    )
    return (
        f"identity in use by {'two' if len(hosts) == 2 else len(hosts)} hosts: {named}. On the one that must not have it stop the"
        " agent, remove its state folder, and enrol it with a join token as a peer of its own"
    )


def intent_is_stale(host: IntentFacts | None) -> bool:
    """Whether an agent misses the digests that would confirm its intent."""
    return host is not None and (host.intent_unconfirmed_s or 0.0) > INTENT_STALE_S


def is_outdated(host: IntentFacts | None) -> bool:
    """Whether an agent has received a newer revision than it has applied completely."""
    return host is not None and (host.received_revision or 0) > (host.applied_revision or 0)
