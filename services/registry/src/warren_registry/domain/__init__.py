"""Rules of the registry: values in, values out. No socket, clock, randomness, database or bus."""
