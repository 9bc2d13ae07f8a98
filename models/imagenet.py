"""The 1,000 classes of ImageNet (ILSVRC 2012), in the order in which networks give them.

Synsets are WordNet's, as timm lists them; names are those of torchvision, which are unique.
"""

import functools
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageNetClass:
    """One class.

    Args:
        index: Its place among a network's logits.
        synset: "n01440764".
        name: "tench".
        others: What WordNet calls it as well: "Tinca tinca".
    """

    index: int
    synset: str
    name: str
    others: tuple[str, ...]


@functools.cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """Return all classes, by index."""
    from timm.data import ImageNetInfo  # with its models, which take seconds
    from torchvision.models import ResNet18_Weights

    info, names = ImageNetInfo("imagenet-1k"), ResNet18_Weights.DEFAULT.meta["categories"]
    return tuple(
        ImageNetClass(
            index,
            info.index_to_label_name(index),
            names[index],
            tuple(info.index_to_description(index).split(", ")),
        )
        for index in range(info.num_classes())
    )
