"""What is remembered of the ways from one run of the agent to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from warren_contracts.addresses import IPAddress


@dataclass(frozen=True)
class KnownPaths:
    """The addresses of host names, and the ways in use: each a tunnel and the text of its other end's endpoint."""

    addresses: Mapping[str, tuple[IPAddress, ...]] = field(default_factory=dict)
    ways: frozenset[tuple[str, str]] = frozenset()


class PathMemory(Protocol):
    """Where it is stored."""

    def load(self) -> KnownPaths:
        """What was saved last; empty if nothing was."""

    def save(self, known: KnownPaths) -> None:
        """Replace it."""
