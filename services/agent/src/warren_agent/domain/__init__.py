"""The agent's decisions, pure: states, what to change, when to start a tunnel, what to report. No clock, daemon or bus."""
