"""Two sides: what differs between them, and whether the new one is worse than the old."""
