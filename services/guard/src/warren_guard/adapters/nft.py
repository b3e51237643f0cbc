"""nft(8): replace the table, list it, read the whole ruleset."""

import json
from typing import Any

from warren_guard.adapters import command, netlink
from warren_guard.domain.ruleset import TABLE
from warren_guard.errors import NftError

ATTEMPTS = 5  # on a host whose other programs change rules all the time


async def apply(text: str) -> None:
    """Run a transaction: all of it or nothing.

    Raises:
        NftError: nft is missing, or refuses it; the former table stands.
    """
    await _run("-f", "-", stdin=text)


async def install(text: str) -> str | None:
    """Run the transaction that replaces our table, and list it as it is then.

    If another program commits a transaction of its own before the listing, that might show the table with its changes: both are
    done again.

    Raises:
        NftError: nft is missing, or refuses it; the former table stands.
    """
    listed = None
    for _ in range(ATTEMPTS):
        before = _generation()
        await apply(text)
        listed = await list_table()
        if listed is not None and _generation() == before + 1:
            break
    return listed


def _generation() -> int:
    try:
        return netlink.nftables_generation()
    except OSError as error:
        raise NftError(f"nftables: {error.strerror}") from None


async def list_table() -> str | None:
    """Our table without counters, None if there is none."""
    try:
        return await _run("--stateless", "list", "table", "inet", TABLE)
    except NftError:
        return None


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
    return await command.run("nft", *arguments, package="nftables", error=NftError, stdin=stdin)
