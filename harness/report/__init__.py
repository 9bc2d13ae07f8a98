"""One page that shows what is in a results folder, and what made it."""
