"""What an agent can drive: one port (`port.py`), one package a daemon. A driver is imported only where it is used."""
