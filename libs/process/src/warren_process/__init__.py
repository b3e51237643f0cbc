"""What every process of Warren needs of Python and its host, where the standard library stops short.

Files that are replaced whole, background tasks, stop signals, control sockets, programs of the host, backoff and rate limits. It
imports the standard library only, and it knows nothing of tunnels, so that every package may import it.
"""
