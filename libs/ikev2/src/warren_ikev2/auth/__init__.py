"""Authentication in IKE_AUTH (RFC 7296, 2.15 and 2.16): pre-shared keys, raw keys, certificates and EAP.

`octets`: the octets that AUTH covers. `proofs`: building and verifying AUTH. `certificates`: path validation. `eap` and its
methods: the rounds of RFC 3748.
"""
