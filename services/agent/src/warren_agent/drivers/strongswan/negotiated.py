"""What was negotiated against what a tunnel allows. Pure. list-conns shows no proposals, so that an SA alone says which there were."""

from collections.abc import Iterable, Iterator, Sequence

from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_contracts.proposals import AEAD_CIPHERS, CIPHERS, GROUPS, INTEGRITIES, PRFS, Algorithms
from warren_contracts.tunnel import Tunnel

_KEYWORDS = frozenset((*AEAD_CIPHERS, *CIPHERS, *INTEGRITIES, *PRFS, *GROUPS))


def negotiated_differences(config: Tunnel, sas: Sequence[IkeSa]) -> list[str]:
    """Algorithms in use that the derived tunnel does not allow."""
    esp = [proposal for child in config.link.children for proposal in child.proposals]
    ciphers = {child.cipher for sa in sas for child in sa.children if child.carries}
    used = {sa.cipher for sa in sas if sa.up}
    refused = [
        f"crypto.ike: {it} is in use and not allowed" for it in used if not _allows(config.link.ike.proposals, it)
    ]
    return refused + [f"crypto.esp: {it} is in use and not allowed" for it in ciphers if not _allows(esp, it)]


def foreign_algorithms(config: Tunnel, sas: Iterable[IkeSa], desired: DesiredHandles) -> str:
    """Algorithms of SAs of the newest configuration that it does not allow: another one of the same name was loaded.

    Empty if there are none. An algorithm without a keyword in our grammar is not judged.
    """
    current = [sa for sa in sas if sa.handle == desired.connection and sa.up]
    ike = (sa.cipher for sa in current if _is_foreign(config.link.ike.proposals, sa.cipher))
    return ", ".join(sorted({*ike, *_foreign_children(config, current, desired)}))


def _foreign_children(config: Tunnel, current: Iterable[IkeSa], desired: DesiredHandles) -> Iterator[str]:
    proposals = {child.name: child.proposals for child in config.link.children}
    for sa in current:
        for child in sa.children:
            if (
                child.carries
                and child.handle is not None
                and child.handle in desired.children
                and _is_foreign(proposals.get(child.handle.child, ()), child.cipher)
            ):
                yield child.cipher


def _is_foreign(proposals: Iterable[Algorithms], cipher: str) -> bool:
    words = {word.rpartition("_")[2] if word.startswith("ke") else word for word in cipher.split("-")}
    return words <= _KEYWORDS and not any(words <= {*proposal} for proposal in proposals)


def _allows(proposals: Iterable[Algorithms], cipher: str) -> bool:
    return any({*cipher.split("-")} <= {*proposal} for proposal in proposals)
