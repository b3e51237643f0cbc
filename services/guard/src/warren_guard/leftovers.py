"""Looks for what a crashed IPsec daemon has left in the kernel, and removes it."""

from collections.abc import Iterable
from typing import Protocol

from warren_contracts.leftovers import Leftover, OwnedSa, RemoveLeftoversRequest
from warren_guard.domain.leftovers import CharonRoute, KernelIpsec, find
from warren_guard.errors import GuardError


class IpsecKernel(Protocol):
    """The kernel's states, policies and routes."""

    async def read(self) -> KernelIpsec:
        """What is there now; GuardError if it cannot be read."""

    async def tunnel_routes(self) -> tuple[CharonRoute, ...]:
        """The routes of charon's table; GuardError if they cannot be read."""

    async def remove(self, leftovers: Iterable[Leftover]) -> None:
        """Remove these, in this order; what is gone already is fine."""


async def look(kernel: IpsecKernel, sas: Iterable[OwnedSa]) -> tuple[Leftover, ...]:
    """What of these CHILD_SAs the kernel holds. GuardError if it cannot be read."""
    return find(sas, await kernel.read())


async def remove(kernel: IpsecKernel, request: RemoveLeftoversRequest) -> tuple[Leftover, ...]:
    """Remove what was asked for and still belongs to these CHILD_SAs; returns what is gone.

    Raises:
        GuardError: the kernel cannot be read, or something asked for remains.
    """
    asked = set(request.leftovers)
    due = [it for it in await look(kernel, request.sas) if it in asked]
    if due:
        await kernel.remove(due)
        remaining = set(await look(kernel, request.sas)) & set(due)
        if remaining:
            raise GuardError(f"{len(remaining)} of {len(due)} leftovers cannot be removed")
    return tuple(due)
