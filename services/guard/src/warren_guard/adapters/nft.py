"""nft(8): replace the table, list it, read the whole ruleset."""

import json
from typing import Any

from warren_guard.adapters import netlink
from warren_guard.domain.ruleset import TABLE
from warren_guard.errors import NftError
from warren_process import host_command

ATTEMPTS = 5  # on a host whose other programs change rules all the time


async def apply(text: str) -> None:
    """Run a transaction: all of it or nothing.

    Raises:
        NftError: nft is missing, or refuses it; the former table stands.
    """
    await _run("-f", "-", stdin=text)


async def install(text: str) -> int:
    """Run the transaction that replaces our table; returns its number, by which `list_table` says whether it was the last.

    Raises:
        NftError: nft is missing, or refuses it; the former table stands.
    """
    for _ in range(ATTEMPTS):
        before = _generation()
        await apply(text)
        if _generation() == before + 1:
            return before + 1
    return 0  # of no transaction: others come in between all the time


def _generation() -> int:
    try:
        return netlink.nftables_generation()
    except OSError as error:
        raise NftError(f"nftables: {error.strerror}") from None


async def list_table() -> tuple[int, str | None]:
    """Our table without counters, None if there is none, and the number of the transaction that left it so.

    -1: another program has had one while it was listed, so that the listing may have its changes or not.
    """
    generation = -1
    try:
        generation = _generation()
        listed = await _run("--stateless", "list", "table", "inet", TABLE)
        return generation if _generation() == generation else -1, listed
    except NftError:
        return generation, None


async def read_ruleset() -> list[dict[str, Any]]:
    """The objects of the whole ruleset, as libnftables-json(5) has them.

    Raises:
        NftError: it cannot be read.
    """
    try:
        document = json.loads(await _run("--json", "--stateless", "list", "ruleset"))
        return [item for item in document["nftables"] if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError) as error:
        raise NftError(f"nft: unreadable ruleset: {error}") from None


async def _run(*arguments: str, stdin: str = "") -> str:
    return await host_command.run("nft", *arguments, package="nftables", error=NftError, stdin=stdin)
