"""Every suite, one line each."""
