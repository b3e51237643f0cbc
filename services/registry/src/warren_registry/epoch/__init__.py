"""Epochs: the trust document, and a new epoch after a restore."""
