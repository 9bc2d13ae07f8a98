"""The data sets that `--out-of-distribution` names, opened for the suites that take them."""

from harness.running.evaluate import spread_evenly
from harness.running.options import Options
from harness.suites.datasets import Split
from harness.suites.folder_reading import Reading
from harness.suites.out_sets import OutSet, open_sets


def out_sets(spec: str, split: Split, options: Options) -> tuple[OutSet, ...]:
    """Return what the images of `split` are told from, pictures in files framed as its own are.

    Of a folder without halves all count, since nothing is trained on them; it needs no classes.

    Raises:
        FileNotFoundError, LookupError, ValueError: As of `open_sets`.
    """
    asked = options.out_of_distribution
    if not asked:
        return ()
    shown = spread_evenly(len(split), options.limit)
    reading = Reading(split.reading.framing, options.skip_damaged, whole=True, labeled=False)
    return open_sets(asked, spec, split, shown, options.data, reading)
