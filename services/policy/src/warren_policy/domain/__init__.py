"""What a change means: revisions, the sets of the readers, the audit chain. Values in, values out."""
