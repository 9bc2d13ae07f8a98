"""Networks of other classes than a data set: its labels as theirs, or they among its classes."""

from dataclasses import replace

import torch
from torch import nn

from harness.models.among import Among
from harness.models.lookup import Source
from harness.models.source_code import code_of
from harness.running.options import Options
from harness.suites.datasets import Split
from harness.suites.label_maps import LabelMap, label_map


def map_labels(dataset: str, split: Split, options: Options) -> tuple[str, Split, LabelMap | None]:
    """Return a data set's name and test images with labels as the options say, and how.

    Raises:
        FileNotFoundError, LookupError, ValueError: As of `label_map`.
    """
    if options.labels is None:
        return dataset, split, None
    labels = label_map(options.labels, split.classes)
    if options.mapped_only:
        return f"{dataset} (mapped only)", split, labels
    index = torch.tensor(labels.index)
    return dataset, replace(split, labels=index[split.labels], classes=labels.classes), labels


def among_mapped(src: Source, labels: LabelMap | None) -> Source:
    """Return the source of a network that chooses among the mapped classes alone."""
    assert labels is not None
    index, classes = labels.index, len(labels.classes)

    def build(num_classes: int = 0, **arguments: int) -> nn.Module:
        return Among(src.build(num_classes=classes, **arguments), index)

    return replace(src, build=build, code={**src.code, **code_of(Among)})
