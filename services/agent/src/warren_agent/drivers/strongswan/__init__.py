"""The strongSwan driver: charon through its VICI socket, without swanctl and without files.

`vici_codec` is the pure wire format, `vici_client` its asyncio shell, `error_notify` reads why a negotiation failed,
`connections` writes a Tunnel as a load-conn message, `sas` reads list-sas, `convergence` decides which SAs are
surplus, and `driver` holds them together.
"""
