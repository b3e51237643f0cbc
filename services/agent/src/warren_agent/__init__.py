"""State machine, reconciler, watchdog, drivers."""
