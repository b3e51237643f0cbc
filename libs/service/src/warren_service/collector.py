"""Python's garbage collector in a service whose state is large."""

import gc


def spare_the_collector() -> None:
    """Let the collector look at everything rarely.

    The state of a large fleet is a million immutable objects without cycles: a full collection holds the event loop for a third of
    a second, and with the default thresholds a scrape, a busy second of telemetry or a plan causes one.
    """
    gc.collect()
    gc.freeze()  # what was imported
    gc.set_threshold(50_000, 20, 50)
