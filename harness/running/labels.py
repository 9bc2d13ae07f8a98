"""Networks of other classes than a data set: its labels as theirs, or they among its classes."""

from dataclasses import replace

import torch
from torch import nn

from harness.models.among import Among
from harness.models.lookup import Source
from harness.models.source_code import code_of
from harness.suites.datasets import Split
from harness.suites.label_maps import LabelMap


def map_labels(split: Split, labels: LabelMap | None, mapped_only: bool) -> Split:
    """Return test images with labels as a network has them, where that was told."""
    if labels is None or mapped_only:
        return split
    index = torch.tensor(labels.index)
    return replace(split, labels=index[split.labels], classes=labels.classes)


def among_mapped(src: Source, labels: LabelMap | None) -> Source:
    """Return the source of a network that chooses among the mapped classes alone."""
    assert labels is not None
    index, classes = labels.index, len(labels.classes)

    def build(num_classes: int = 0, **arguments: int) -> nn.Module:
        return Among(src.build(num_classes=classes, **arguments), index)

    return replace(src, build=build, code={**src.code, **code_of(Among)})
