"""`warren vpn client`: one tunnel to one of several servers.

`states`, `servers`, `timing`, `verify` are pure; `client` is the process, `connection` makes its IKE client, `monitor` watches the
host's network, `control` answers `warren vpn status` and `warren vpn down`.
"""
