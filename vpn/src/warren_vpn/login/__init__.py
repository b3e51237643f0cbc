"""Logins of the VPN server: who may try how often, whether a password is right, and the record of it.

- `throttle`  limits and delays of failed logins (pure)
- `verifier`  the verdicts that the engine asks for: scrypt in two threads, a bounded queue
- `audit`     one JSON line a login, in a file that rotates
"""
