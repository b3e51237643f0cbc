"""The directory: which record each reader must hold, its publication, and digests."""
