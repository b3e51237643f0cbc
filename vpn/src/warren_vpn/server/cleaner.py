"""The process that cleans up after the server, also after kill -9: a fork that waits for the server's end, and then removes its
nftables table and puts forwarding back.

So the server itself can give up its privileges, and the host does not stay open until somebody starts the server again. The fork
reads nothing but the end of a pipe. If it is killed too, the next start cleans up.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from warren_cli.errors import CliError


class Cleaner:
    """Started by the server once everything is in place, before its event loop and without a second thread."""

    def __init__(self, clean: Callable[[], None], close: tuple[int, ...]) -> None:
        """`clean` is called after the server's end; `close` are descriptors that only the server may hold, such as its TUN device.

        Raises OSError.
        """
        reading, self._writing = os.pipe()
        self.process_id = os.fork()
        if self.process_id == 0:
            _wait_and_clean(reading, (self._writing, *close), clean)
        os.close(reading)

    def finish(self) -> None:
        """Let it clean up, and wait for that."""
        os.close(self._writing)
        os.waitpid(self.process_id, 0)


def _wait_and_clean(reading: int, close: tuple[int, ...], clean: Callable[[], None]) -> None:
    """The fork. Never returns."""
    code = 1
    try:
        os.setsid()  # a terminal's signals are for the server
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # systemd sends them to every process of the unit
        for descriptor in close:
            os.close(descriptor)
        with contextlib.suppress(InterruptedError):
            os.read(reading, 1)
        clean()
        code = 0
    except (CliError, OSError) as error:
        print(f"warren vpn: cleaning up failed: {error}", file=sys.stderr)
    finally:
        os._exit(code)
