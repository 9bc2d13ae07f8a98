"""Common corruptions of images: batched, every draw keyed per image."""

from suites.corruptions import blur
from suites.corruptions import color
from suites.corruptions import contract
from suites.corruptions import digital
from suites.corruptions import drops
from suites.corruptions import external
from suites.corruptions import jpeg
from suites.corruptions import linear
from suites.corruptions import noise
from suites.corruptions import textures
from suites.corruptions import weather
from suites.corruptions.kinds import (
    BLUR,
    COMMON,
    CORRUPTIONS,
    DIGITAL,
    NOISE,
    VALIDATION,
    WEATHER,
    corrupt,
)
