"""Studies: what is asked, what is run for it, what the answer is, and whether it could fail."""
