"""Every family of classifiers, one line each."""
