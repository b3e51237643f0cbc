"""For tests: fakes of the registry's ports, and (in `stack`) the registry and the callout as processes on real parts."""

from warren_registry.testing.database import FakeDatabase, FakeTables
from warren_registry.testing.streams import FakePolicies, FakeStream

__all__ = ["FakeDatabase", "FakePolicies", "FakeStream", "FakeTables"]
