"""Differential operators on pixel grids, and the random numbers that go with them."""

from models.ops.heat import heat
from models.ops.perona_malik import perona_malik
