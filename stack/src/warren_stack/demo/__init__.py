"""The demo: the whole product on real parts, in a sandbox of its own.

`sandbox` runs everything in network and mount namespaces (and without root in a user namespace), so that the machine's
own network, firewall and ports are never touched; `fleet` builds three gateways; `scenario` does what an operator would
do and looks at what really happened; `report` says it. It belongs to the extra `[local]`.
"""
