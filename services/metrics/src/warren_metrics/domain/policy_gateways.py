"""Which gateways have a tunnel of which policy, by what their agents report.

Tags are the registry's and not known here. A derived tunnel's name contains both ends, so the other end of a tunnel that one end
reports counts as well: as soon as one of them has a new policy.
"""

from collections import Counter
from collections.abc import Iterable


class PolicyGateways:
    """The gateways with a tunnel of each policy, by what the ends report."""

    def __init__(self) -> None:
        self._ends: dict[str, Counter[str]] = {}  # by policy: the number of reports that name a gateway

    def of(self, policy: str) -> Iterable[str]:
        """The gateways of a policy."""
        return self._ends.get(policy, {}).keys()

    def change(self, peer: str, tunnel: str, before: str | None, after: str | None) -> None:
        """`peer` reports another policy of a tunnel; None: none."""
        ends = {*tunnel.split("+"), peer} if "+" in tunnel else {peer}
        if after is not None:
            self._ends.setdefault(after, Counter()).update(ends)
        if before is not None:
            counts = self._ends[before]
            counts.subtract(ends)
            for end in ends:
                if not counts[end]:
                    del counts[end]
            if not counts:
                del self._ends[before]
