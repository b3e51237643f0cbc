"""The daemon's UNIX socket: commands with their answers, and reports. Starts the daemon where none answers.

The daemon outlives the agent, so that tunnels stay up while the agent is started again; it is ended by `Shutdown` only.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from warren_agent.errors import ConfigRefusedError, DriverError, DriverUnavailableError, UnknownTunnelError
from warren_ikev2.daemon import messages

START_SECONDS = 20.0
"""A daemon answers within half a second on an idle machine."""
_POLL_SECONDS = 0.05


class Channel:
    """One connection to the daemon."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._waiting: dict[int, asyncio.Future[messages.Answer]] = {}

    async def call(self, command: messages.Command) -> str:
        """Send a command and wait for its answer; returns its outcome.

        Raises:
            ConfigRefusedError: the daemon refuses it.
            UnknownTunnelError: it names a tunnel that the daemon does not have.
            DriverUnavailableError: the connection ended.
        """
        self._number = number = self._number + 1  # commands overlap: each removes its own
        answer: asyncio.Future[messages.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(messages.build(number, command))
            await self._writer.drain()
            result = await answer
        except ConnectionError as error:
            raise DriverUnavailableError(f"the userspace daemon does not answer: {error}") from None
        finally:
            self._waiting.pop(number, None)
        if isinstance(result, messages.Done):
            return result.outcome
        raise (UnknownTunnelError if result.code == "unknown-tunnel" else ConfigRefusedError)(result.reason)

    async def listen(self, on_report: Callable[[messages.TunnelReport], None]) -> None:
        """Receive until the connection ends. Raises `DriverError` if the daemon has another version."""
        try:
            while line := await self._reader.readline():
                number, message = messages.parse(line)
                if isinstance(message, messages.TunnelReport):
                    on_report(message)
                elif isinstance(message, messages.Done | messages.Refused):
                    answer = self._waiting.get(number)
                    if answer is not None and not answer.done():
                        answer.set_result(message)
        except messages.DaemonMessageError as error:
            raise DriverError(f"userspace daemon: {error}") from None
        except ConnectionError:
            return
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection; calls that wait raise `DriverUnavailableError`."""
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(DriverUnavailableError("the userspace daemon has ended"))


async def connect(path: Path) -> Channel:
    """Connect to the daemon. Raises `OSError` where none answers."""
    return Channel(*await asyncio.open_unix_connection(path, limit=messages.MAX_LINE))


async def launch(path: Path, options: tuple[str, ...] = ()) -> Channel:
    """Start a daemon and connect to it.

    Raises:
        DriverUnavailableError: it ended, or did not answer within START_SECONDS.
    """
    with (path.parent / "userspace.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "warren_ikev2.daemon", "--socket", str(path), *options,
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    return await connect(path)
                except OSError:
                    await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=_POLL_SECONDS)
    except TimeoutError:
        process.kill()
    raise DriverUnavailableError(f"the userspace daemon did not start; its output: {path.parent / 'userspace.log'}")
