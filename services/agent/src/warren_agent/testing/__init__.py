"""For tests: fakes of the agent's ports, and whole agents as processes on a small control plane."""

from warren_agent.testing.fakes import FakeDriver, FakeOutlet, FakeRegistry, FakeSource, FakeTunnel

__all__ = ["FakeDriver", "FakeOutlet", "FakeRegistry", "FakeSource", "FakeTunnel"]
