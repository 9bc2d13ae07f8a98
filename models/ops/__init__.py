"""Differential operators on pixel grids, and the random numbers that go with them."""

from harness.models.ops.heat import heat
from harness.models.ops.perona_malik import perona_malik
