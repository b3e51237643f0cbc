"""nft(8): replace the table, list it, read the whole ruleset."""

import asyncio
import json
from typing import Any

from warren_guard.adapters import netlink
from warren_guard.domain.ruleset import TABLE
from warren_guard.errors import NftError

ATTEMPTS = 5  # on a host whose other programs change rules all the time
LIMIT_S = 20.0  # nft answers within 0.1 s for 1,000 tunnels
MAX_RULESET = 64 * 1024 * 1024  # bytes of one listing


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
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise NftError(f"nft: {error.strerror}: install nftables") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin.encode()), LIMIT_S)
    except BaseException as error:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(error, TimeoutError):
            raise NftError(f"nft {arguments[0]}: no end within {LIMIT_S:g} s") from None
        raise
    if process.returncode != 0:
        raise NftError(f"nft: {_first_line(errors)}")
    if len(output) > MAX_RULESET:
        raise NftError(f"nft: a listing of more than {MAX_RULESET:,} bytes")
    return output.decode(errors="replace")


def _first_line(errors: bytes) -> str:
    """nft's own reason: `/dev/stdin:3:1-2: Error: ...`, or `Operation not permitted` without the capability."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    reason = next(
        (line for line in lines if "rror" in line or "not permitted" in line), lines[0] if lines else "no reason"
    )
    return reason[:400]
