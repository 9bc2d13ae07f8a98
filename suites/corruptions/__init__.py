"""Common corruptions of images: batched, every draw keyed per image."""

from suites.corruptions import blur, digital, noise, weather
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
