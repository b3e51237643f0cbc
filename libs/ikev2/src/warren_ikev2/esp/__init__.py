"""Scalar ESP (RFC 4303): one packet in, one packet out, no socket and no clock.

Place in the architecture: the IKEv2 engine (`warren_ikev2.engine`) negotiates CHILD_SAs, this package protects the
packets of them, and `warren_ikev2.aio` carries both over UDP. The code follows the text of the RFCs and is the
reference for tests of a faster data plane.

- `transforms`  AES-GCM-16 (RFC 4106), ChaCha20-Poly1305 (RFC 7634), AES-CBC with HMAC-SHA2 (RFC 3602, 4868)
- `replay`      the anti-replay window and the inference of the high half of an ESN (RFC 4303, 3.4.3 and appendix A2)
- `selectors`   the inner selector check (RFC 4301, 5.2)
- `inner`       parsing of IPv4 and IPv6 headers
- `ecn`         DSCP and ECN across the tunnel (RFC 6040)
- `pmtu`        inner MTU, fragmentation before encryption, ICMP answers (RFC 4301, 8)
- `sa`          one outbound or inbound SA
- `table`       all SAs of an endpoint, chosen by selector and by SPI, with rollover at a rekey
- `udp`         classification of ESP, IKE and keepalives on port 4500 (RFC 3948)
"""
