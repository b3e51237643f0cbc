"""What the agent's ports are made of: the bus, the disk."""
