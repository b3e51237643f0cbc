"""A daemon that keeps tunnels up by command: `python -m warren_ikev2.daemon --socket PATH`. Linux, with CAP_NET_ADMIN.

Place in the architecture: the agent's `userspace` driver controls it over a UNIX socket, as the `strongswan` driver controls
charon over VICI. It holds the IKEv2 engine; packets are carried by its data process (`warren_ikev2.dataplane`).

- `messages`   commands, answers and reports, as the driver and the daemon share them; imports no cryptography
- `build`      a specification as a connection of the engine
- `tunnels`    the tunnels, their sessions, and what is reported of them
- `routes`     routes into the TUN device
- `server`     the UNIX socket
"""
