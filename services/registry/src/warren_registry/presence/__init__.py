"""Presence: heartbeats, connections, and their sweep."""
