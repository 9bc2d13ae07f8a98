"""Frame in, Figure out; `figures` saves them."""
