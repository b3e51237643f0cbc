"""Proofs of identity in IKE_AUTH (RFC 7296, 2.15 and 2.16): pre-shared keys, raw keys, certificates and EAP.

`octets` is what a proof covers, `proofs` makes and checks the AUTH payload, `certificates` decides whether a certificate
speaks for an identity, `eap` and its methods are the rounds of RFC 3748.
"""
