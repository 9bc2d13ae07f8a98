"""The answers of studies, from results/DATASET/study.json, as the page has them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.analysis.groups import describe_group
from harness.comparison.wording import bounds, chance, signed
from harness.report.numbers import Number, convert, find_scale
from harness.study.claims import NO, SLIGHT, UNCLEAR, WORSE, YES, say
from harness.study.schema import read_study
from harness.study.stored import FILES, StoredAnswer, StoredEffect, Study
from harness.suites.metrics import METRICS, full_title

PLACES = 6  # of where an interval is drawn; what is printed is rounded by `comparison.wording`

TONES = {YES: "yes", SLIGHT: "yes", NO: "no", WORSE: "no", UNCLEAR: "unsure"}


def read(results: Path) -> list[tuple[Study, list[str]]]:
    """Return the studies of a results folder, that of most images first, and their stale runs.

    Raises:
        Refusal: One is damaged, or no study; says which question and effect.
    """
    found = []
    for path in sorted(results.glob(f"*/{FILES}")):
        if not path.name.endswith(".plan.json"):
            study = read_study(path)
            found.append((study, study.stale(results)))
    return sorted(found, key=lambda pair: -pair[0].images)


def find_headline(answer: StoredAnswer) -> StoredEffect | None:
    """Return the one effect that says most: of those that decide, that with the least gain."""
    deciding = [e for e in answer.effects if e.decides and math.isfinite(e.effect)]
    return min(deciding, key=lambda e: METRICS[e.metric].sign * e.effect, default=None)


def questions(
    study: Study, runs: Sequence[Mapping[str, Any]], stale: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the answers of a study, their effects in words.

    Args:
        runs: Those of the page, as of `runs.runs`; an effect gets the numbers of its own.
        stale: Paths of runs that are no longer those that the answers are of.
    """
    made = []
    for answer in study.questions:
        answer = replace(answer, runs=tuple(r for r in answer.runs if r not in stale))
        effects = [_effect(e, _runs(e, answer, study, runs)) for e in answer.effects]
        for effect in effects:  # effects of one metric share a scale with 0 on it
            same = [e["numbers"] for e in effects if e["metric"] == effect["metric"]]
            effect["scale"] = find_scale([0.0, *(n for numbers in same for n in numbers)])
        top = find_headline(answer)
        made.append(
            {
                "question": answer.question,
                "answer": answer.answer,
                "verdict": say(answer.verdict, answer.margin),
                "tone": TONES[answer.verdict],
                "checks": list(answer.checks),
                "power": answer.power,
                "change": answer.change,
                "headline": _effect(top, []) if top else None,
                "effects": effects,
            }
        )
    return made


def _effect(effect: StoredEffect, runs: Sequence[int]) -> dict[str, Any]:
    metric = METRICS[effect.metric]
    title = full_title(effect.metric, effect.variant)
    value = signed(effect.metric, effect.effect)
    known = not math.isnan(effect.low) and not math.isnan(effect.high)
    interval = bounds(effect.metric, effect.low, effect.high) if known else ""
    p = "" if math.isnan(effect.p) else chance(effect.p)
    chances = [f"p {p}" if p.startswith("<") else f"p = {p}"] if p else []
    numbers: list[Number] = [
        convert(metric, number, PLACES) for number in (effect.effect, effect.low, effect.high)
    ]
    doubt = "; ".join([f"95 % {interval}"] * known + chances)
    less = f" less {effect.against}" if effect.against else ""
    less += f", {effect.further}," if effect.further else ""
    return {
        "model": effect.model,
        "against": ", ".join(filter(None, (effect.against, effect.further))),
        "metric": title,
        "better": metric.sign,
        "group": describe_group(effect.group),
        "value": value,
        "interval": interval,
        "p": p,
        "seeds": effect.seeds,
        "images": effect.images,
        "numbers": numbers,
        "runs": list(runs),
        "says": (
            f"{title} {describe_group(effect.group)}: {effect.model}{less} is {value}"
            f"{f' ({doubt})' if doubt else ''}, over {effect.seeds} training "
            f"seed{'s' * (effect.seeds != 1)} and {effect.images:,} images."
        ),
    }


def _runs(
    effect: StoredEffect, answer: StoredAnswer, study: Study, runs: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Numbers of the runs that an effect comes from."""
    return [
        number
        for number, run in enumerate(runs)
        if (run["dataset"], run["suite"]) == (study.dataset, effect.suite)
        and run["model"] in (effect.model, effect.against)
        and f"{run['path']}.csv" in answer.runs
    ]
