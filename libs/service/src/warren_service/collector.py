"""Python's garbage collector in a service whose state is large."""

import gc


def spare_the_collector(youngest: int = 250_000) -> None:
    """Let the collector look at everything rarely, and at the youngest objects after so many new ones.

    The state of a large fleet is a million immutable objects without cycles: a full collection holds the event loop for a third of
    a second, and with the default thresholds a scrape, a busy second of telemetry or a plan causes one. A pass over the youngest
    objects looks at all that were replaced since the last one: with a threshold of 50,000 it was a third of a scrape of 100,000 tunnels.
    """
    gc.collect()
    gc.freeze()  # what was imported
    gc.set_threshold(youngest, 20, 50)
