"""An agent under test: its bus, its process."""
