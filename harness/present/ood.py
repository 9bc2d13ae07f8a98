"""The suite ood: how well other data sets are told from the images' own, a row for each score."""

from harness.present.request import Request, by_run, counts, estimate
from harness.present.sheet import COUNTS, DATASET, MODEL, PERCENT, Column, Row, Sheet, number
from harness.suites.detection import MEASURES, SCORES

ROWS = 40  # that a terminal shows
COLUMNS = (
    DATASET,
    MODEL,
    Column("condition", "against"),
    Column("variant", "score"),
    number("ood_auroc", "AUROC %", PERCENT, interval=2),
    number("ood_aupr", "AUPR %", PERCENT, drop=4, interval=7),
    number("ood_fpr95", "FPR95 %", PERCENT, drop=3, interval=6),
    number("accuracy", "clean %", PERCENT, drop=5),
    *COUNTS,
)
NOTE = (
    "FPR95: share of the other images taken for the data set's own where 95 % of these are; "
    "n: images of both."
)


def ood_sheets(request: Request) -> list[Sheet]:
    """Return a row for each model, other data set and score, the data sets in the order of rows."""
    frame = request.frame
    clean = frame["metric"].eq("accuracy") & frame["variant"].eq("")
    runs = by_run(request.samples(frame[clean | frame["metric"].isin(MEASURES)]))
    rows: list[Row] = []
    for names, part in request.runs():
        means = runs[names["dataset"], names["model"]]
        others = part.loc[part["metric"].isin(MEASURES), "condition"]
        for other in dict.fromkeys(others):
            for score in SCORES:
                of = {name: means.get((name, score, other)) for name in MEASURES}
                row = names | {"condition": other, "variant": score} | counts(*of.values())
                row |= estimate("accuracy", means.get(("accuracy", "", "clean")))
                for name, sample in of.items():
                    row |= estimate(name, sample)
                rows.append(row)
    return [Sheet(COLUMNS, rows, [NOTE] if rows else (), "detection", limit=ROWS)]
