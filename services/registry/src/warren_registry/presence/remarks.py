"""What the registry knows of gateways that an operator must correct, for the health of the service."""

from collections.abc import Iterable, Sequence

from warren_contracts.verdicts import identity_in_use
from warren_registry.presence.tracker import PresenceTracker

MAX_NAMED = 5  # gateways of one remark; `warren status` names all


def remarks(presence: PresenceTracker) -> dict[str, str]:
    """By subject: identities that several hosts use, and gateways whose intent no digest confirms."""
    shared = presence.shared()
    found = {
        "identities": _joined([f"{peer}: {identity_in_use(hosts)}" for peer, hosts in shared.items()], "; "),
        "intents": _stale(presence.stale_intents()),
    }
    return {name: text for name, text in found.items() if text}


def _stale(peers: Iterable[str]) -> str:
    names = sorted(peers)
    if not names:
        return ""
    return f"stale at {_joined(names, ', ')}: the registry's digests do not arrive there; see registry and NATS"


def _joined(texts: Sequence[str], separator: str) -> str:
    more = f"{separator}and {len(texts) - MAX_NAMED} more: see `warren status`" if len(texts) > MAX_NAMED else ""
    return separator.join(texts[:MAX_NAMED]) + more
