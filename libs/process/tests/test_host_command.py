"""Programs of the host: what is returned, and the one line that says why there is nothing to return."""

import asyncio

import pytest

from warren_process.host_command import first_reason, run


class RefusedError(Exception):
    """As a package that runs programs has one."""


async def shell(script: str, **others: float) -> str:
    return await run("sh", "-c", script, package="dash", error=RefusedError, **others)  # type: ignore[arg-type]


async def test_a_program_reads_its_input_and_returns_its_output() -> None:
    assert await run("cat", package="coreutils", error=RefusedError, stdin="straße\n") == "straße\n"
    assert await shell(r"printf 'a\377b'") == "a\ufffdb"


async def test_a_program_that_is_missing_names_its_package() -> None:
    with pytest.raises(RefusedError, match=r"^no-such-program: No such file or directory: install nothing$"):
        await run("no-such-program", package="nothing", error=RefusedError)


async def test_a_refusal_is_the_programs_own_reason() -> None:
    with pytest.raises(RefusedError, match=r"^sh: /dev/stdin:3: Error: no$"):
        await shell("echo warning >&2; echo /dev/stdin:3: Error: no >&2; exit 1")


async def test_a_program_that_does_not_end_is_killed() -> None:
    with pytest.raises(RefusedError, match=r"^sh -c: no end within 0.05 s$"):
        await shell("exec sleep 60", limit_s=0.05)


async def test_a_cancelled_call_leaves_no_program() -> None:
    task = asyncio.create_task(shell("exec sleep 60"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_listing_that_is_too_long_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"^sh: a listing of more than 1,000 bytes$"):
        await shell("head -c 1001 /dev/zero", max_output=1000)


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ("", "exit code 3"),
        ("\n  \nfirst\nsecond\n", "first"),
        ("hint\nRTNETLINK answers: Operation not permitted\n", "RTNETLINK answers: Operation not permitted"),
        ("x" * 1000, "x" * 400),
    ],
)
def test_the_reason_is_one_line(errors: str, reason: str) -> None:
    assert first_reason(errors, 3) == reason
