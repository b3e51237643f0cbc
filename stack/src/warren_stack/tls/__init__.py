"""The certificates of the control plane: its CA, one certificate for each listener, and those that an operator brings.

`warren_trust.certificates` makes and `check` examines them (pure), `folder` stores them in DATA/tls, `rotation`
replaces the CA, `keeper` renews and reloads all of it.
"""
