"""Two sides, their differences, and the gate."""
