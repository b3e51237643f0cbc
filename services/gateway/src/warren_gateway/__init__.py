"""The one HTTP door: REST and server-sent events."""
