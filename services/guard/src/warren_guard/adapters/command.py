"""Run nft(8) and ip(8): no shell, a limit of time and of output, the first error line as the reason."""

import asyncio

from warren_guard.errors import GuardError

LIMIT_S = 20.0  # nft answers within 0.1 s for 1,000 tunnels
MAX_OUTPUT = 64 * 1024 * 1024  # bytes of one listing


async def run(*argv: str, package: str, error: type[GuardError], stdin: str = "") -> str:
    """The output of a program that ended with 0. `package` is what installs it.

    Raises:
        error: it is missing, does not end, or refuses; the message has its own reason.
    """
    program = argv[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as failure:
        raise error(f"{program}: {failure.strerror}: install {package}") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin.encode()), LIMIT_S)
    except BaseException as failure:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(failure, TimeoutError):
            raise error(f"{program} {argv[1]}: no end within {LIMIT_S:g} s") from None
        raise
    if process.returncode != 0:
        raise error(f"{program}: {first_reason(errors)}")
    if len(output) > MAX_OUTPUT:
        raise error(f"{program}: a listing of more than {MAX_OUTPUT:,} bytes")
    return output.decode(errors="replace")


def first_reason(errors: bytes) -> str:
    """The program's own reason: `/dev/stdin:3:1-2: Error: ...`, or `Operation not permitted` without the capability."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    reason = next(
        (line for line in lines if "rror" in line or "not permitted" in line), lines[0] if lines else "no reason"
    )
    return reason[:400]
