"""The users of a VPN server: their passwords as scrypt verifiers, their keys, and what they may do.

- `model`     a user, and the whole file, validated
- `password`  scrypt verifiers (pure), and how long a password must be
- `store`     the file: locked, replaced atomically, mode 0600
- `commands`  `warren vpn user`
"""
