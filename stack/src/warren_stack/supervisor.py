"""The supervisor: each part its own process, started again when it ends, stopped by tiers.

Parts do not wait for each other: a service that finds no bus keeps trying, so the order of starts and of deaths does not
matter. The kernel ends every part when the supervisor dies (`bound_to_parent`), whatever killed it.
"""

import asyncio
import contextlib
import enum
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from warren_lab.process import eventually
from warren_stack.logfile import Complain, RotatingLog
from warren_stack.noise import NoiseLimit
from warren_stack.parts import STABLE_SECONDS, ManagedProcess, RecoverableFault, restart_pause

CHUNK_BYTES = 1 << 16
FAULT_POLL_SECONDS = 1.0
"""Pause between two checks of whether the cause of a fault is gone: a check may write to a disk."""
KILL_LIMIT_SECONDS = 5.0
"""SIGKILL cannot be refused; only a process stuck in the kernel takes longer."""

Notify = Callable[[str, "PartState"], None]


class PartState(enum.StrEnum):
    """Where one part is."""

    STARTING = "starting"
    READY = "ready"
    FAULTY = "faulty"  # it runs, and works again only after a restart
    WAITING = "waiting"  # it ended; the next start comes after a pause
    STOPPED = "stopped"


class _OutputPipe:
    """A process's standard output and error on their way into its log.

    It reads a pipe of its own: asyncio's would delay `wait()` until every grandchild has closed it.
    """

    def __init__(self, log: RotatingLog, words: bytes = b"", noise: tuple[bytes, ...] = ()) -> None:
        """`matched` is set when the output contains `words`, in upper or lower case; lines with `noise` are limited."""
        self._noise = NoiseLimit(noise)
        self.matched = asyncio.Event()
        self._words = words
        self._last = b""  # what may be the beginning of the words
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._loop.add_reader(self._read_end, self._copy)

    def started(self) -> None:
        """The process has its own copy of the write end now."""
        os.close(self.write_end)
        self.write_end = -1

    def close(self) -> None:
        """Copy what is left and close the pipe; a grandchild that writes later gets EPIPE."""
        self._copy()
        self._log.write(self._noise.rest())
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        if self.write_end >= 0:
            os.close(self.write_end)

    def _copy(self) -> None:
        try:
            while chunk := os.read(self._read_end, CHUNK_BYTES):
                self._log.write(self._noise.filter(chunk))
                self._listen(chunk)
        except BlockingIOError:
            return
        self._loop.remove_reader(self._read_end)

    def _listen(self, chunk: bytes) -> None:
        if self._words:
            text = (self._last + chunk).lower()
            self._last = text[-len(self._words) + 1 :]
            if self._words in text:
                self.matched.set()


class SupervisedPart:
    """One part: its process, its log, its restarts."""

    def __init__(self, part: ManagedProcess, log: RotatingLog, notify: Notify) -> None:
        self.part = part
        self.log = log
        self.state = PartState.STOPPED
        self.starts = 0
        self.last_exit: int | None = None
        self._notify = notify
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self) -> None:
        """Start the part and restart it whenever it ends."""
        self._set_state(PartState.STARTING)
        self._task = asyncio.create_task(self._keep_running(), name=f"part-{self.part.name}")

    async def stop(self) -> None:
        """Stop the part: its signal, then SIGKILL to its process group after the limit. It is not restarted."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._set_state(PartState.STOPPED)
        self.log.close()

    def last_output(self) -> str:
        """The exit code and the last line of the log."""
        code = "" if self.last_exit is None else f"it ended with code {self.last_exit}; "
        lines = self.log.last_lines(1)
        return f"{code}last line: {lines[0] if lines else 'none'} ({self.log.path})"

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            await self._run_once()
            failures = 0 if time.monotonic() - began >= STABLE_SECONDS else failures + 1
            self._set_state(PartState.WAITING)
            await asyncio.sleep(restart_pause(failures))

    async def _run_once(self) -> None:
        self.starts += 1
        self._set_state(PartState.STARTING)
        self._process = None
        try:
            with contextlib.ExitStack() as opened:
                fault = self.part.fault
                output = _OutputPipe(self.log, fault.words if fault else b"", self.part.noise)
                opened.callback(output.close)
                self._process = await self._spawn(output)
                opened.pop_all()
        except OSError as error:  # no process, no pipe: this machine is short of something, and may have it again
            self.log.write(f"-- {self.part.name} cannot be started: {error}\n".encode())
            return
        output.started()
        await self._run(self._process, output)

    async def _spawn(self, output: _OutputPipe) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.part.command(),
            env=dict(self.part.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.write_end,
            stderr=output.write_end,
            cwd=None if self.part.user is None else "/",  # the user may not enter the folder of its supervisor
            start_new_session=True,
        )

    async def _run(self, process: asyncio.subprocess.Process, output: _OutputPipe) -> None:
        """Until the process has ended; ends it when this is cancelled."""
        fault = self.part.fault
        tasks: list[asyncio.Task[None]] = []
        try:
            tasks.append(asyncio.create_task(self._watch_ready()))
            if fault is not None:
                tasks.append(asyncio.create_task(self._restart_after_fault(fault, output.matched, process)))
            self.last_exit = await process.wait()
            self.log.write(f"-- {self.part.name} ended with code {self.last_exit}\n".encode())
        finally:
            for task in tasks:
                task.cancel()
            await self._end(process)
            output.close()

    async def _watch_ready(self) -> None:
        await eventually(self.part.ready, self.part.name, math.inf)
        self._set_state(PartState.READY)

    async def _restart_after_fault(
        self, fault: RecoverableFault, matched: asyncio.Event, process: asyncio.subprocess.Process
    ) -> None:
        """Restart the process as soon as the cause of its fault is gone."""
        await matched.wait()
        self._set_state(PartState.FAULTY)
        await eventually(lambda: asyncio.to_thread(fault.is_over), self.part.name, math.inf, FAULT_POLL_SECONDS)
        self.log.write(f"-- {self.part.name} is restarted: the cause of its fault is gone\n".encode())
        await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """End the process if it still runs: its signal, then SIGKILL to its group."""
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.part.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self.part.stop_limit_seconds)
        except TimeoutError:
            self.log.write(f"-- {self.part.name} did not end within {self.part.stop_limit_seconds:g} s\n".encode())
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.wait_for(process.wait(), KILL_LIMIT_SECONDS)

    def _set_state(self, state: PartState) -> None:
        if state is not self.state:
            self.state = state
            self._notify(self.part.name, state)


class ProcessSupervisor:
    """Several parts, in the order of their start. Use as an async context manager: leaving stops all of them."""

    def __init__(self, log_folder: Path, notify: Notify | None = None, complain: Complain | None = None) -> None:
        """`notify` receives each change of a part's state, `complain` each log that cannot be written. Neither may raise."""
        self._log_folder = log_folder
        self._notify = notify if notify is not None else _quiet
        self._complain = complain if complain is not None else _quiet
        self._parts: dict[str, SupervisedPart] = {}

    @property
    def parts(self) -> Mapping[str, SupervisedPart]:
        return self._parts

    def add(self, part: ManagedProcess) -> SupervisedPart:
        """Start a part and keep it running."""
        log = RotatingLog(self._log_folder / f"{part.name}.log", complain=self._complain)
        supervised = SupervisedPart(part, log, self._notify)
        self._parts[part.name] = supervised
        supervised.start()
        return supervised

    async def stop(self) -> None:
        """Stop everything, the highest tier first, each tier together."""
        tiers = {supervised.part.tier for supervised in self._parts.values()}
        for tier in sorted(tiers, reverse=True):
            stopping = [supervised for supervised in self._parts.values() if supervised.part.tier == tier]
            await asyncio.gather(*(supervised.stop() for supervised in stopping))
        self._parts.clear()

    async def __aenter__(self) -> "ProcessSupervisor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _quiet(*_: object) -> None:
    return
