"""The guard: the only process of a gateway with CAP_NET_ADMIN. It keeps packets of protected traffic from leaving in clear.

It listens on a Unix socket only, validates every request, and owns one nftables table (`inet warren`), which does not depend on
any IPsec daemon. docs/promises.md says what it guarantees.
"""
