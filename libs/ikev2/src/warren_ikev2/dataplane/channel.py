"""Receiving control messages, with the descriptors that come with them (unix(7), SCM_RIGHTS)."""

import array
import socket

from warren_ikev2.dataplane import control

MAX_PORTS = 4
_SPACE = socket.CMSG_LEN((1 + MAX_PORTS) * array.array("i").itemsize)


def receive(channel: socket.socket, *, wait: bool = False) -> tuple[control.Message, list[int]]:
    """Receive one control message and its descriptors.

    Raises `EOFError` if the other end has closed, `BlockingIOError` if there is none, `ControlError` for an invalid one.
    """
    flags = 0 if wait else socket.MSG_DONTWAIT
    try:
        # not socket.recv_fds, which ignores its flags
        data, ancillary, flags, _ = channel.recvmsg(control.MAX_MESSAGE, _SPACE, flags)
    except ConnectionError:
        raise EOFError("the other process has closed the control channel") from None
    if not data:
        raise EOFError("the other process has closed the control channel")
    descriptors = array.array("i")
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(value[: len(value) - len(value) % descriptors.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise control.ControlError("a message was cut off")
    return control.parse(data), list(descriptors)
