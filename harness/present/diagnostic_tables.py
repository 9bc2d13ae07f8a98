"""What a person wants to see first of the suites that look inside a model, as tables."""

import pandas as pd
from rich.table import Table

from harness.plots.attention import KINDS, kinds_of, side
from harness.plots.stability import PERCENTILE
from harness.suites.corruptions import BLUR, NOISE
from harness.suites.stability import GRADIENT, RANDOM

SHOWN = ("entropy", "support", "gini", "total_variation", "dirichlet", "border", "distance")
NUMBER = "{:.3f}".format


def attention_table(frame: pd.DataFrame) -> Table:
    """Statistics of the maps on clean images, and how far noise and blur move them.

    Args:
        frame: Long table of the suite attention.
    """
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "model", "map"):
        table.add_column(heading)
    for heading in (*(s.replace("_", " ") for s in SHOWN), "accuracy %", "moved: noise", "blur"):
        table.add_column(heading, justify="right")
    for (dataset, model), part in frame.groupby(["dataset", "model"], sort=False):
        clean = part[part["condition"] == "clean"].groupby("metric")["value"].mean()
        kinds = kinds_of(list(dict.fromkeys(part["metric"])))
        place = {kind: i for i, kind in enumerate(KINDS)}
        for kind in sorted(kinds, key=lambda k: (place.get(k, len(KINDS)), -side(k))):
            own = kind in ("used", *[k for k in kinds if k not in KINDS])
            name = "accuracy" if own else f"accuracy_{kind}"
            cells = [NUMBER(clean[m]) if (m := f"{s}_{kind}") in clean else "" for s in SHOWN]
            cells.append(f"{100 * clean[name]:.1f}" if name in clean else "")
            moved = part[part["metric"] == f"instability_{kind}"]
            for family in (NOISE, BLUR):
                here = moved[moved["condition"].isin([k.__name__ for k in family])]["value"]
                cells.append(NUMBER(here.mean()) if len(here) else "")
            table.add_row(str(dataset), str(model), kind.replace("gradcam_", "Grad-CAM "), *cells)
    return table


def stability_table(frame: pd.DataFrame) -> Table:
    """Growth over the whole depth, what is left of the gradient, and the worst block.

    Args:
        frame: Long table of the suite stability.
    """
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "model"):
        table.add_column(heading)
    headings = ("growth: random", "along the gradient", "gradient first/last block")
    for heading in (*headings, "spectral norm", "log norm", "step / limit"):
        table.add_column(heading, justify="right")
    for (dataset, model), part in frame.groupby(["dataset", "model"], sort=False):
        row = []
        for condition in (RANDOM, GRADIENT):
            grown = _by_block(part[part["condition"] == condition], "log10_growth_")
            row.append(f"{10 ** grown.iloc[-1]:.2f}" if len(grown) else "")
        clean = part[part["condition"] == "clean"]
        gradient = _by_block(clean, "log10_gradient_norm_")
        row.append(f"{10 ** (gradient.iloc[0] - gradient.iloc[-1]):.2f}" if len(gradient) else "")
        for prefix in ("spectral_norm_", "log_norm_", "step_ratio_"):
            found = _by_block(clean, prefix)
            name = str(found.idxmax()).removeprefix(prefix) if len(found) else ""
            row.append(f"{found.max():.2f} ({name})" if len(found) else "")
        table.add_row(str(dataset), str(model), *row)
    return table


def _by_block(frame: pd.DataFrame, prefix: str) -> pd.Series:
    """Means over seeds by block, in the order of evaluation, at the smallest level."""
    kept = frame[frame["metric"].str.startswith(prefix)]
    kept = kept[~kept["metric"].str.contains(PERCENTILE)]
    kept = kept[kept["level"] == kept["level"].min()]
    return kept.groupby("metric", sort=False)["value"].mean()
