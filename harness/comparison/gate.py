"""What a check is asked: margins, a baseline and new results; the verdicts on them."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.analysis.collect import Key
from harness.comparison.guards import Guard, guarded, judged
from harness.comparison.sides import Side, measured_on, of_shared_seeds, open_side, samples_of
from harness.progress import Progress

DEFAULT = {("accuracy", ""): 0.005}
EXAMPLE = 'Write it as in `[margin]`, `accuracy = 0.005`, `"accuracy/noise" = 0.01`.'


def margins(options: Sequence[str], config: Path | None) -> dict[tuple[str, str], float]:
    """Return margins by (metric, group), "" for all groups: of a TOML file, then of the options.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: One is not of the form metric=number or metric/group=number, or negative.
    """
    found: dict[tuple[str, str], float] = {}
    if config is not None:
        found |= _from_file(config)
    for text in options:
        name, equals, number = text.rpartition("=")
        try:
            found[_name(name)] = _margin(float(number) if equals else None)
        except ValueError:
            raise ValueError(
                f"`--margin {text}` is not of the form accuracy=0.005 or accuracy/noise=0.01, with "
                "a number >= 0."
            ) from None
    return found or dict(DEFAULT)


def _from_file(config: Path) -> dict[tuple[str, str], float]:
    if not config.is_file():
        raise FileNotFoundError(f"There is no file {config}. Check the path of `--config`.")
    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is not TOML: {error}. {EXAMPLE}") from None
    extra = [name for name in content if name != "margin"]
    table = content.get("margin")
    if extra or not isinstance(table, dict) or not table:
        what = f"`{extra[0]}` means nothing" if extra else "there is no table `[margin]`"
        raise ValueError(f"{config}: {what}. {EXAMPLE}")
    found = {}
    for name, value in table.items():
        try:
            found[_name(name)] = _margin(value)
        except ValueError:
            raise ValueError(
                f"{config}: `{name}` must be a number >= 0; got {value!r}. {EXAMPLE}"
            ) from None
    return found


def _name(text: str) -> tuple[str, str]:
    metric, _, group = (word.strip() for word in text.partition("/"))
    if not metric:
        raise ValueError
    return metric, group


def _margin(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError
    return float(value)


def check(
    results: Path,
    baseline: Path,
    wanted: Mapping[tuple[str, str], float],
    names: Mapping[str, Sequence[str]],
    progress: Progress,
) -> tuple[list[Guard], list[str]]:
    """Return the verdicts on `results` against `baseline`, and what was left out.

    Args:
        wanted: Margins by (metric, group).
        names: Data sets, suites and models to keep of the baseline; empty ones keep all.

    Raises:
        FileNotFoundError: There is nothing at a path.
        LookupError: The baseline lacks a name.
        ValueError: A file is damaged, or the baseline is the results.
    """
    if results.resolve() == baseline.resolve():
        raise ValueError(
            f"The baseline {baseline} is what is checked. Give the folder of the new results with "
            "`--results`, or another baseline."
        )
    metrics = list(dict.fromkeys(metric for metric, _ in wanted))
    before = open_side(baseline, whole=True).only(**names).only(metric=metrics)
    present = {name: set(before.rows[name]) for name in ("dataset", "suite", "model", "metric")}
    now, before, left_out = of_shared_seeds(open_side(results, whole=True).among(present), before)
    of_before = samples_of(before, progress)
    guards = guarded(of_before, wanted)
    of_now = samples_of(now, progress)
    return judged(of_now, of_before, guards, _others(now, before, guards)), left_out


def _others(now: Side, before: Side, guards: Mapping[Key, float]) -> dict[Key, str]:
    """Guards whose runs tell that they are of other images or of another version."""
    mine, theirs = measured_on(now), measured_on(before)
    found = {}
    for key in guards:
        run = key.dataset, key.suite, key.model
        if run in mine and run in theirs and mine[run] != theirs[run]:
            found[key] = "its images or the version of its suite are not the baseline's"
    return found
