"""The supervisor with real processes."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_stack.parts import ManagedProcess, RecoverableFault
from warren_stack.supervisor import PartState, ProcessSupervisor
from warren_testkit.waiting import eventually

LIMIT_SECONDS = 60.0


def script(name: str, text: str, **fields: object) -> ManagedProcess:
    return ManagedProcess(name=name, argv=(sys.executable, "-u", "-c", text), env=dict(os.environ), **fields)  # type: ignore[arg-type]  # fields of Part


SLEEPER = "import signal; print('up'); signal.pause()"


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[ProcessSupervisor]:
    async with ProcessSupervisor(tmp_path) as supervisor:
        yield supervisor


async def test_supervisor_restarts_a_part_that_was_killed(supervisor: ProcessSupervisor) -> None:
    part = supervisor.add(script("sleeper", SLEEPER))
    await eventually(lambda: part.process_id, LIMIT_SECONDS, "first start")
    first = part.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: part.process_id not in (None, first), LIMIT_SECONDS, "second start")
    assert part.starts == 2
    assert part.last_exit == -signal.SIGKILL


async def test_supervisor_logs_both_streams_and_the_end(supervisor: ProcessSupervisor, tmp_path: Path) -> None:
    part = supervisor.add(script("talker", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    await eventually(lambda: part.last_exit == 3, LIMIT_SECONDS, "the end")
    await eventually(lambda: part.state is PartState.WAITING, LIMIT_SECONDS, "the pause")
    assert (tmp_path / "talker.log").read_text().splitlines()[:3] == ["out", "err", "-- talker ended with code 3"]
    assert "it ended with code 3" in part.last_output()


async def test_supervisor_restarts_a_part_whose_log_is_on_a_full_disk(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "talker.log").symlink_to("/dev/full")
    async with ProcessSupervisor(tmp_path, complain=said.append) as supervisor:
        part = supervisor.add(script("talker", "import signal; print('up'); signal.pause()"))
        await eventually(lambda: said and part.process_id, LIMIT_SECONDS, "its first words")
        first = part.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: part.process_id not in (None, first), LIMIT_SECONDS, "second start")
        assert part.last_output().startswith(f"it ended with code {-signal.SIGKILL}")
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path / 'talker.log'}: No space left on device")


async def test_supervisor_tries_again_what_cannot_be_started(supervisor: ProcessSupervisor, tmp_path: Path) -> None:
    program = tmp_path / "program"
    part = supervisor.add(ManagedProcess("late", (str(program),), dict(os.environ), user=None))
    await eventually(lambda: part.state is PartState.WAITING, LIMIT_SECONDS, "a start that fails")
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    await eventually(lambda: part.state is PartState.READY, LIMIT_SECONDS, "a start that does not")


async def test_part_is_ready_when_it_says_so_and_not_before(supervisor: ProcessSupervisor) -> None:
    asked = asyncio.Event()

    async def ready() -> bool:
        return asked.is_set()

    part = supervisor.add(script("slow", SLEEPER, ready=ready))
    await eventually(lambda: part.last_output().startswith("last line: up"), LIMIT_SECONDS, "its first line")
    assert part.state is PartState.STARTING
    asked.set()
    await eventually(lambda: part.state is PartState.READY, LIMIT_SECONDS, "its readiness")


async def test_supervisor_stops_higher_tiers_first(tmp_path: Path) -> None:
    stopped: list[str] = []

    def notify(name: str, state: PartState) -> None:
        if state is PartState.STOPPED:
            stopped.append(name)

    async with ProcessSupervisor(tmp_path, notify) as supervisor:
        for tier, name in enumerate(("first", "second", "third")):
            supervisor.add(script(name, SLEEPER, tier=tier))
    assert stopped == ["third", "second", "first"]


async def test_supervisor_kills_the_group_of_a_part_that_does_not_end(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.signal(15, signal.SIG_IGN); signal.pause()'])\n"
        "print('child', child.pid)\n"
        "signal.pause()\n"
    )
    async with ProcessSupervisor(tmp_path) as supervisor:
        part = supervisor.add(script("stubborn", stubborn, stop_limit_seconds=0.3))
        await eventually(lambda: part.log.last_lines(1) != [], LIMIT_SECONDS, "the child")
        child = int(part.log.last_lines(1)[0].split()[1])
        descriptor = os.pidfd_open(child)
    try:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        await asyncio.wait_for(ended.wait(), LIMIT_SECONDS)
        loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)
    assert "did not end within" in (tmp_path / "stubborn.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
async def test_parts_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from warren_stack.parts import ManagedProcess\n"
        "from warren_stack.supervisor import ProcessSupervisor\n"
        "async def main():\n"
        f"    async with ProcessSupervisor(Path({str(tmp_path)!r})) as supervisor:\n"
        f"        part = supervisor.add(ManagedProcess('sleeper', (sys.executable, '-u', '-c', {SLEEPER!r}), dict(os.environ)))\n"
        "        while not part.log.last_lines(1): await asyncio.sleep(0.01)\n"
        "        print(part.process_id, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert victim.stdout is not None
    child = int(await victim.stdout.readline())
    descriptor = os.pidfd_open(child)
    try:
        victim.kill()
        await victim.wait()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, ended.set)
        await asyncio.wait_for(ended.wait(), LIMIT_SECONDS)
    finally:
        with contextlib.suppress(ValueError):
            asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_supervisor_restarts_a_part_with_a_fault_once_its_cause_is_gone(tmp_path: Path) -> None:
    states: list[PartState] = []
    over = threading.Event()
    needy = "import signal; print('[ERR] Critical', end='', flush=True); print(' Write error: x'); signal.pause()"
    async with ProcessSupervisor(tmp_path, lambda _, state: states.append(state)) as supervisor:
        fault = RecoverableFault(b"critical write error", "it cannot write", over.is_set)
        part = supervisor.add(script("needy", needy, fault=fault))
        await eventually(lambda: part.state is PartState.FAULTY, LIMIT_SECONDS, "its words")
        over.set()
        await eventually(
            lambda: part.starts > 1, LIMIT_SECONDS, "second start"
        )  # it has the fault again, and soon ends
    assert states.index(PartState.FAULTY) < states.index(PartState.WAITING)
    assert "-- needy is restarted" in (tmp_path / "needy.log").read_text()
