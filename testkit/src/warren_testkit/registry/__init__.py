"""Fakes of the registry's ports, and (in `stack`) the registry and the callout as processes on real parts."""

from warren_testkit.registry.database import FakeDatabase, FakeTables
from warren_testkit.registry.streams import FakePolicies, FakeStream

__all__ = ["FakeDatabase", "FakePolicies", "FakeStream", "FakeTables"]
