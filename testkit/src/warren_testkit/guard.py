"""Fakes of the guard's ports."""

from collections.abc import Collection, Iterable, Sequence

from warren_contracts.guard import FindingCode, HostFinding
from warren_contracts.leftovers import Leftover, LeftoverKind
from warren_guard.domain.holdings import Holdings
from warren_guard.domain.interfaces import KernelLinks
from warren_guard.domain.leftovers import CharonRoute, KernelIpsec, removal
from warren_guard.errors import IpError, NftError

FINDING = HostFinding(code=FindingCode.MASQUERADE, detail="a chain")


class FakeFirewall:
    """A kernel that holds one table, or refuses it with `refusal`. Each time the table is set is one transaction."""

    def __init__(self) -> None:
        self._table: str | None = None
        self.generation = 0
        self.refusal = ""
        self.applied = 0

    @property
    def table(self) -> str | None:
        """The table in the kernel."""
        return self._table

    @table.setter
    def table(self, text: str | None) -> None:
        self._table = text
        self.generation += 1

    async def install(self, text: str) -> int:
        if self.refusal:
            raise NftError(self.refusal)
        self.table = text
        self.applied += 1
        return self.generation

    async def list_table(self) -> tuple[int, str | None]:
        return self.generation, self.table


class FakeInspector:
    """Finds FINDING."""

    async def inspect(self, held: Holdings, devices: tuple[str, ...], keep_sources: bool) -> tuple[HostFinding, ...]:
        return (FINDING,)


class FakeKernel:
    """Holds what a test puts into it; `lines` are the commands of ip(8) that it got, `refusal` the answer to them."""

    def __init__(self) -> None:
        self.ipsec = KernelIpsec()
        self.around = KernelLinks()
        self.lines: list[str] = []
        self.refusal = ""
        self.down: set[str] = set()
        self.has_rules = False

    async def read(self) -> KernelIpsec:
        return self.ipsec

    async def tunnel_routes(self) -> tuple[CharonRoute, ...]:
        return tuple(self.ipsec.routes)

    async def devices_down(self, devices: Collection[str]) -> list[str]:
        return [device for device in devices if device in self.down]

    async def rules(self, family: int) -> list[dict[str, object]]:
        return [{"priority": 220, "table": "220"}] if self.has_rules else []

    async def change_rules(self, family: int, lines: Sequence[str]) -> None:
        if self.refusal:
            raise IpError(self.refusal)
        self.lines += [f"-{family} {line}" for line in lines]

    async def remove(self, leftovers: Iterable[Leftover]) -> None:
        """Removes all of it, as `find` names it."""
        gone = tuple(leftovers)
        self.lines += [removal(it) for it in gone]
        spis = {(str(it.destination.network_address), it.spi) for it in gone if it.kind is LeftoverKind.STATE}
        indexes = {it.index for it in gone if it.kind is LeftoverKind.POLICY}
        routes = {it.destination for it in gone if it.kind is LeftoverKind.ROUTE}
        self.ipsec = KernelIpsec(
            tuple(it for it in self.ipsec.states if (it.destination, it.spi) not in spis),
            tuple(it for it in self.ipsec.policies if it.index not in indexes),
            tuple(it for it in self.ipsec.routes if it.destination not in routes),
        )

    async def surroundings(self, routes_of: str) -> KernelLinks:
        return self.around

    async def batch(self, lines: Sequence[str]) -> None:
        if self.refusal:
            raise IpError(self.refusal)
        self.lines += lines
