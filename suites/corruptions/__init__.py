"""Common corruptions of images: batched, every draw keyed per image."""
