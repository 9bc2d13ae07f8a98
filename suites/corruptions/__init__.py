"""Common corruptions of images: batched, every draw keyed per image."""

from harness.suites.corruptions.kinds import corrupt, corruption_of
