"""Files that keep what was measured: cells, checkpoints, tables and what made them."""
