"""The lab: network namespaces, links, charons, captures and pings for the demo, the tests and the bench.

It stands next to the product and imports none of its services. Everything in it is real (the kernel's namespaces and
veth pairs, Debian's charon with kernel-libipsec); everything it makes is removed by `Lab.close`, also after a failure.
It works as root, and without root inside `unshare --user --map-current-user --keep-caps --net --mount` with a tmpfs on
/run.
"""

from warren_lab.capture import Capture, EspFlow
from warren_lab.charon import Charon
from warren_lab.lab import Lab
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_lab.ping import Ping, PingCounts

__all__ = ["Capture", "Charon", "EspFlow", "Lab", "Namespace", "NamespaceLoop", "Ping", "PingCounts"]
