"""A suite's or a metric's name to the thing: registered, or from a user's file or package."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.models.registry import Registry, unknown
from harness.models.user_code import adopt, is_file, load_code
from harness.suites.base import Arrays, Cell, Measurement, Suite
from harness.suites.catalog import SUITES
from harness.suites.metric import Metric
from harness.suites.metrics import METRICS

INSTALLED: Registry = Registry("metric", group="harness.metrics")


def suite_of(name: str) -> tuple[str, Suite]:
    """Return the name of a suite in tables, and the suite.

    Args:
        name: A name in `SUITES`, or path/to/file.py:NAME.

    Raises:
        LookupError: There is no such suite.
        ValueError: The name is taken, or what it names gives no suite.
    """
    own = adopt(name, SUITES)
    suite = SUITES[own]()
    if not isinstance(suite, Suite):
        raise ValueError(f"`{name}` must return a Suite; got {type(suite).__name__}.")
    return own, suite


def metric_of(spec: str) -> Metric:
    """Return the metric of a name, one that can be computed from logits.

    Args:
        spec: A name in `METRICS` or of an installed package, or path/to/file.py:NAME: a `Metric`,
            or a function (logits (N, K), labels (N,)) to (N,) whose mean is the metric.

    Raises:
        LookupError: There is no such metric.
        ValueError: The name is taken, or what it names gives something else.
    """
    if is_file(spec):
        code = load_code(spec, "metric")
        name, value = code.name, code.value
    elif spec in INSTALLED:
        name, value = spec, INSTALLED[spec]
    else:
        known = [k for k, metric in METRICS.items() if metric.of_images]
        if spec not in known:
            raise unknown("metric of logits", spec, [*known, *INSTALLED])
        return METRICS[spec]
    if not isinstance(value, Metric):
        if not callable(value):
            raise ValueError(f"`{spec}` is no metric and no function: {type(value).__name__}.")
        meaning = " ".join((value.__doc__ or "").split("\n\n")[0].split())
        value = Metric(name, name.replace("_", " "), meaning, of_images=value)
    _check(spec, value)
    METRICS.add(value)
    return value


def _check(spec: str, metric: Metric) -> None:
    logits, labels = np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10), np.arange(4)
    shape = () if metric.of_images is None else np.shape(metric.of_images(logits, labels))
    if shape != (4,):
        raise ValueError(
            f"`{spec}` must give one number for each image: (4,) for logits (4, 10) and labels (4,)"
            f"; got {shape}. Leave the mean over images to the suite."
        )


def with_metrics(suite: Suite, metrics: Sequence[Metric]) -> Suite:
    """Return the suite that measures these metrics too, under every condition that has logits."""
    more = [metric for metric in metrics if metric not in suite.metrics]

    def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
        yield from suite.measure(cell, arrays)
        for metric in more if "logits" in arrays else ():
            value = metric(arrays["logits"], arrays["labels"])
            yield cell.row(metric, value, len(arrays["labels"]))

    return replace(suite, measure=measure, metrics=(*suite.metrics, *more)) if more else suite
