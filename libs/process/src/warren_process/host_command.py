"""Run a program of the host, such as nft(8), ip(8) or resolvectl(1): no shell, limits of time and output, its own reason when it fails."""

import asyncio

LIMIT_S = 20.0  # nft answers within 0.1 s for 1,000 tunnels
MAX_OUTPUT = 64 * 1024 * 1024  # bytes of one listing
MAX_REASON = 400  # characters


async def run(
    *argv: str,
    package: str,
    error: type[Exception],
    stdin: str = "",
    limit_s: float = LIMIT_S,
    max_output: int = MAX_OUTPUT,
) -> str:
    """The output of a program that ended with 0. `package` is what installs it.

    Raises:
        error: it is missing, does not end, refuses, or prints too much; the message has its own reason.
    """
    program = argv[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as failure:
        raise error(f"{program}: {failure.strerror}: install {package}") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin.encode()), limit_s)
    except BaseException as failure:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(failure, TimeoutError):
            raise error(f"{' '.join(argv[:2])}: no end within {limit_s:g} s") from None
        raise
    if process.returncode:
        raise error(f"{program}: {first_reason(errors.decode(errors='replace'), process.returncode)}")
    if len(output) > max_output:
        raise error(f"{program}: a listing of more than {max_output:,} bytes")
    return output.decode(errors="replace")


def first_reason(errors: str, exit_code: int) -> str:
    """The program's own reason: `/dev/stdin:3:1-2: Error: ...`, or `Operation not permitted` without the capability."""
    lines = [line for line in errors.splitlines() if line.strip()]
    usual = lines[0] if lines else f"exit code {exit_code}"
    return next((line for line in lines if "rror" in line or "not permitted" in line), usual)[:MAX_REASON]
