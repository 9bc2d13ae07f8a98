"""Training curves: loss and accuracy by epoch."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.plots.curves import label_lines
from harness.plots.style import Looks, Size, panels, percent, set_integer_ticks, styled
from harness.storage.histories import read_histories

TITLES = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "held_out": "accuracy on held-out images",
}
RATES = ("accuracy", "held_out")


def training_curves(
    results: Path, models: Sequence[str] = (), *, looks: Looks | None = None,
    size: Size | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """Return the training curves of each data set that something was trained on here.

    Args:
        models: To draw; empty for all.
        looks: Colors; by default of the models that were trained here.
    """
    table = read_histories(results)
    table = table[table["model"].isin(models)] if models else table
    if table.empty:
        return {}
    looks = looks or Looks(list(table["model"].unique()))
    return {str(name): curves(part, looks, size) for name, part in table.groupby("dataset")}


@styled
def curves(table: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How did training go, epoch by epoch? Means over seeds; bands reach from seed to seed.

    Args:
        table: Histories of one data set, as of `read_histories`.
    """
    shown = [name for name in TITLES if table[name].notna().any()]
    last = table[table["epoch"] == table.groupby(["model", "seed"])["epoch"].transform("max")]
    ranked = last.groupby("model")[shown[0]].mean().sort_values().index
    models = looks.of(table["model"], list(ranked))
    figure, axes = panels(len(shown), size, least=1.2, height=1.9, beside=1.5, sharex=True)
    for axis, name in zip(axes, shown, strict=True):
        ends = {}
        for model, look in models.items():
            of_epoch = table[table["model"] == model].groupby("epoch")[name]
            mean = of_epoch.mean().dropna()
            if mean.empty:
                continue
            axis.plot(mean.index, mean, **look.line() | {"marker": ""}, label=model)
            if look.full:
                low, high = of_epoch.min()[mean.index], of_epoch.max()[mean.index]
                axis.fill_between(mean.index, low, high, color=look.color, alpha=0.15, linewidth=0)
            ends[model] = (float(mean.index[-1]), float(mean.iloc[-1]))
        axis.set_title(TITLES[name])
        axis.grid()
        set_integer_ticks(axis)
        if name in RATES:
            axis.yaxis.set_major_formatter(FuncFormatter(percent))
        label_lines(axis, ends, models)
    figure.supxlabel("epoch")
    figure.set_label("Training by epoch, means over seeds; bands reach from seed to seed.")
    return figure
