"""Run nft(8), resolvectl(1) and resolvconf(8): no shell, a limit of time, the first line of the errors as the reason."""

import asyncio
from collections.abc import Sequence

from warren_vpn.host.errors import HostError

LIMIT_S = 20.0  # each answers within 0.1 s
PACKAGES = {"nft": "nftables", "resolvectl": "systemd-resolved", "resolvconf": "openresolv"}


async def run(*argv: str, stdin: str = "") -> str:
    """The output of a program that ended with 0. HostError: it is missing, does not end, or refuses."""
    program = argv[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        package = PACKAGES.get(program, program)
        raise HostError(f"{program}: {error.strerror}; apt install {package}") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin.encode()), LIMIT_S)
    except BaseException as failure:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(failure, TimeoutError):
            raise HostError(f"{program}: no end within {LIMIT_S:g} s") from None
        raise
    if process.returncode:
        raise HostError(f"{program}: {_reason(errors)}")
    return output.decode(errors="replace")


def _reason(errors: bytes) -> str:
    lines: Sequence[str] = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line or "not permitted" in line), lines[0] if lines else "failed")[
        :300
    ]
