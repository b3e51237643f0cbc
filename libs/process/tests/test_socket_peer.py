"""Who is at the other end of a Unix socket."""

import os
import socket

from warren_process.socket_peer import user_of


def test_the_user_of_the_other_end_is_the_one_of_its_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert user_of(ours) == os.geteuid()
