"""Peers: their model, announcements, address claims, and changes of members."""
