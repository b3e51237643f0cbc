"""Who is at the other end of a Unix socket. The guard and the VPN decide by it who may ask them."""

import socket
import struct

_CREDENTIALS = struct.Struct("=iII")  # struct ucred of socket(7): process, user, group


def user_of(connection: socket.socket) -> int:
    """The user id of the process that connected, as the kernel knows it (SO_PEERCRED of unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
