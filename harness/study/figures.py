"""A figure of each stored answer: results/figures/DATASET-question-5.png."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from harness.plots.questions import question_figure
from harness.plots.style import Size, check_format, save
from harness.storage.files import safe
from harness.storage.sources import describe_source
from harness.study.claims import say
from harness.study.schema import read_study
from harness.study.stored import FILES, STUDY_NAME, StoredAnswer, Study


def draw_answers(
    results: Path,
    datasets: Sequence[str],
    *,
    numbers: Sequence[str] = (),
    format: str = "png",
    size: Size | None = None,
    out: Path | None = None,
) -> list[Path]:
    """Draw the answers of a results folder's studies; return the files written.

    Args:
        numbers: Of questions; empty for all.
        size: (width, height) in inches, None for what each figure needs.
        out: Folder to write below, where it is another than `results`.

    Raises:
        Refusal: There is no such format, or a study is damaged.
    """
    check_format(format)
    written = []
    for dataset in dict.fromkeys(datasets):
        for path in sorted((results / safe(dataset)).glob(FILES)):
            if path.name.endswith(".plan.json"):
                continue
            study = read_study(path)
            own = "" if study.study == STUDY_NAME else f"-{safe(study.study)}"
            for answer in study.questions:
                if not answer.effects or (numbers and answer.number not in numbers):
                    continue
                name = f"{safe(dataset)}{own}-question-{safe(answer.number)}.{format}"
                source = describe_source(name, results, [path])
                effects = pd.DataFrame([asdict(effect) for effect in answer.effects])
                said, margin = describe(study, answer), margin_in(answer.margin)
                figure = question_figure(effects, said, margin, size)
                written.append(save(figure, (out or results) / "figures" / name, source))
    return written


def describe(study: Study, answer: StoredAnswer) -> str:
    """Return what the figure of an answer says of itself."""
    parts = (
        f"{answer.number}. {answer.question} {say(answer.verdict, answer.margin)}:",
        answer.answer,
        answer.change,
        f"{study.scale}.",
    )
    return " ".join(filter(None, parts))


def margin_in(words: str) -> float:
    """Return a margin in words as a number: 0.01 for "a point"; NaN for a share, "5 %".

    Of a rank statistic it is the number itself.
    """
    if words == "a point":
        return 0.01
    number, _, unit = words.partition(" ")
    try:
        return {"points": 0.01, "point": 0.01, "": 1.0}[unit] * float(number)
    except (ValueError, KeyError):
        return math.nan
