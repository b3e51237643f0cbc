"""The driver for hosts without an IPsec daemon: tunnels by `warren_ikev2.daemon`, in a process of its own.

- `settings`       where the daemon is reached
- `channel`        commands and reports over its UNIX socket; starts it where none answers
- `specification`  a tunnel as the daemon takes it
- `checks`         what this driver refuses
- `status`         the daemon's reports as tunnel status
- `driver`         the port
"""
