"""Plan, train, evaluate."""
