"""Fakes of the guard's ports."""

from warren_contracts.guard import FindingCode, HostFinding
from warren_guard.domain.holdings import Holdings
from warren_guard.errors import NftError

FINDING = HostFinding(code=FindingCode.MASQUERADE, detail="a chain")


class FakeFirewall:
    """A kernel that holds one table, or refuses it with `refusal`."""

    def __init__(self) -> None:
        self.table: str | None = None
        self.refusal = ""
        self.applied = 0

    async def install(self, text: str) -> str | None:
        if self.refusal:
            raise NftError(self.refusal)
        self.table = text
        self.applied += 1
        return text

    async def list_table(self) -> str | None:
        return self.table


class FakeInspector:
    """Finds FINDING."""

    async def inspect(self, held: Holdings, devices: tuple[str, ...], keep_sources: bool) -> tuple[HostFinding, ...]:
        return (FINDING,)
