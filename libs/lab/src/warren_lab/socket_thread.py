"""A thread that reads a socket of a namespace until it is asked to end."""

import socket
import threading
from collections.abc import Callable


class SocketThread:
    """The thread of one socket. `woken` becomes readable when the work is to end: the work waits for it and its socket together."""

    def __init__(self) -> None:
        self._wake, self.woken = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self, name: str, work: Callable[[socket.socket], None], on: socket.socket) -> None:
        """Start the work, which closes the socket."""
        self._thread = threading.Thread(target=work, args=(on,), name=name)
        self._thread.start()

    def stop(self) -> None:
        """Ask the work to end, and wait until it has. Safe to call twice."""
        if self._thread is not None:
            self._wake.send(b"x")
            self._thread.join()
            self._thread = None
        self._wake.close()
        self.woken.close()
