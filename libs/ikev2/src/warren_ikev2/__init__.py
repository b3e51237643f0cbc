"""Sans-IO IKEv2 and ESP, and the asyncio client and server.

The engine (`warren_ikev2.endpoint`, interface in `engine`) takes datagrams and times and returns datagrams, events and
timers; it imports no event loop, socket, clock or source of randomness. `esp` encapsulates packets for the CHILD_SAs
that the engine reports. `aio` (sockets), the edge of `dataplane` (TUN device and offloads) and `daemon` (tunnels by command)
do I/O; the programs in `examples/ikev2` use `aio`. `warren ike` uses the pure parts (`probe`, `decode`, `pcap`) with a socket and
files of its own. Warren's agent uses `daemon` with its userspace driver, in a process of its own.

Structure of the engine, from the lowest layer: `constants`, `errors`, `addresses`, `suites`, `identity`, `selectors` (values);
`wire` (messages); `crypto` (primitives and key schedule); `auth` (authentication); `session`, `ike_sa`, `exchanges` (the
protocol); `retransmission` and `maintenance` (timers); `dispatch`, `admission`, `deadlines`,
`endpoint_commands`, `endpoint_reports`, `endpoint` (many IKE_SAs, cookies, limits).
"""
