"""Frames as a person reads them."""
