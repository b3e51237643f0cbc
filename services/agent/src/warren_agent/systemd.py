"""Messages to the service manager (sd_notify(3)): only where it asks for them, which the installed unit does not.

With `WatchdogSec=` in a drop-in, systemd restarts the service when these messages end; docs/agent.md shows a drop-in that
restarts charon in the same step.
"""

import os
import socket


def notify(message: str) -> bool:
    """Send one message, such as `WATCHDOG=1`; False where no service manager listens, or it does not take it now."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:
            return False
    return True
