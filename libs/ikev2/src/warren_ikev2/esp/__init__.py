"""Scalar ESP (RFC 4303): one packet in, one packet out, no socket and no clock.

Place in the architecture: the IKEv2 engine (`warren_ikev2.engine`) negotiates CHILD_SAs, this package protects the
packets of them, and `warren_ikev2.aio` carries both over UDP. The code is meant to be read next to the RFCs and serves
as the oracle of any faster data plane: whatever that one does to a packet, this one says what it should have been.

- `transforms`  AES-GCM-16 (RFC 4106), ChaCha20-Poly1305 (RFC 7634), AES-CBC with HMAC-SHA2 (RFC 3602, 4868)
- `replay`      the anti-replay window and the guess of the high ESN half (RFC 4303, 3.4.3 and appendix A2)
- `selectors`   the inner selector check (RFC 4301, 5.2)
- `inner`       what ESP must know of IPv4 and IPv6 headers
- `ecn`         DSCP and ECN across the tunnel (RFC 6040)
- `pmtu`        inner MTU, fragmentation before encryption, ICMP answers (RFC 4301, 8)
- `sa`          one outbound or inbound SA
- `table`       all SAs of an endpoint, chosen by selector and by SPI, with rollover at a rekey
- `udp`         telling ESP, IKE and keepalives apart on port 4500 (RFC 3948)
"""
