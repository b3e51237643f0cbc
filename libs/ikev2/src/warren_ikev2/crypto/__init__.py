"""Primitives as IKEv2 uses them, all from the `cryptography` package, and the key schedule.

`prf` and `groups` are the building blocks, `keys` derives every SK_* and KEYMAT, `sk` opens and seals encrypted payloads,
`signatures` are those of RFC 7427, `legacy` has the algorithms that only MSCHAPv2 may use.
"""
