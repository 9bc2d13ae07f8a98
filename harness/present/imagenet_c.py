"""ImageNet-C: the tables of accuracy, and its mCE where all that it is of was measured."""

from harness.analysis.corruption_error import is_accuracy
from harness.analysis.imagenet_c import IMAGES, alexnet_mce, is_whole
from harness.present.accuracy import accuracy_sheets
from harness.present.board import rows_of
from harness.present.request import Request
from harness.present.sheet import COUNTS, DATASET, MODEL, Row, Sheet, fixed, number

OF_ALL = (
    f"the mCE of ImageNet-C is of all {IMAGES:,}, as published, under the 15 common corruptions"
)


def imagenet_c_sheets(request: Request) -> list[Sheet]:
    """Return the tables of accuracy, and the mCE against AlexNet's errors or why there is none."""
    accuracy = request.frame[is_accuracy(request.frame)]
    rows, notes = list[Row](), dict[str, None]()
    for (dataset, model), part in accuracy.groupby(["dataset", "model"], sort=False):
        if is_whole(part, str(model)):
            found = alexnet_mce(part, request.samples(part))
            rows += [row | {"reference": "AlexNet"} for row in rows_of(found)]
            notes[f"{dataset}: all {IMAGES:,} images of ImageNet-C, 1,000 classes of 50."] = None
        else:
            kinds = part["condition"].nunique() - 1
            some = f"{part['n'].max():,} images, {kinds} corruption{'s' * (kinds != 1)}"
            notes[f"{dataset}: {some}; {OF_ALL}."] = None
    title = "mce[ref=AlexNet]"
    columns = [DATASET, MODEL, number("mce", title, fixed(1), interval=2), *COUNTS]
    return [*accuracy_sheets(request), Sheet(columns if rows else [], rows, [*notes], "mce")]
