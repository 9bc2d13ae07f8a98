"""Runs, stores, compares, draws, and talks to people."""
