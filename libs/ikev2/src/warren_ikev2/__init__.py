"""Sans-IO IKEv2 and ESP, and the asyncio client and server.

The engine (`warren_ikev2.endpoint`, interface in `engine`) takes datagrams and times and returns datagrams, events and
timers; it imports no event loop, socket, clock or source of randomness. `esp` wraps packets for the CHILD_SAs that the
engine reports.
`aio` is the only sub-package that does I/O; the programs in `examples/ikev2` stand on it. `warren ike` uses the pure parts
(`probe`, `decode`, `pcap`) with a socket and files of its own. Warren's agent uses none of it: its driver is strongSwan's.

Rooms of the engine, from the bottom: `constants`, `errors`, `addresses`, `suites`, `identity`, `selectors` (values);
`wire` (messages); `crypto` (primitives and key schedule); `auth` (proofs of identity); `exchanges` and `ike_sa` (the
protocol); `endpoint` (many IKE_SAs, cookies, limits).
"""
