"""Differential operators on pixel grids, and the random numbers that go with them."""
