"""What keeps the numbers of models from being compared, in sentences; none where nothing does.

Models are compared as a table shows them: on one data set, by one suite. What differs between them
is read from the JSON beside their rows: how they were trained, on how many images, by which version
of the suite, on what machine. A mean over corruptions is of those that a model was measured under,
which need not be those of another model.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis.groups import groups_of, headline
from harness.suites.catalog import COMMON

Run = tuple[str, str, str, int]  # data set, suite, model, seed
Made = Mapping[Run, Mapping[str, Any]]  # what made each run, as `results.read_provenances` gives it
Model = tuple[str, str, str]  # data set, suite, model
NAMED = 4  # models that a sentence names one by one
SETTINGS = 4  # that a sentence names
NOT_OF_TRAINING = ("compiled",)  # changes the speed alone
CODE = "code of "  # a setting of each module; all are told as one
Settings = Callable[[Mapping[str, Any]], Mapping[str, str]]


def find_notes(table: pd.DataFrame, made: Made) -> list[str]:
    """Return what keeps the models of a table from being compared or believed, a sentence each.

    Args:
        table: Long table; what made other runs is left out.
    """
    runs = table[["dataset", "suite", "model", "seed"]].drop_duplicates()
    own = {run: made[run] for run in runs.itertuples(index=False, name=None) if run in made}
    return [
        *_differences(own, "Measured on different images", _images, 2),
        *_differences(own, "Measured on different numbers of images", _count, 2),
        *_differences(own, "Measured in different ways", _protocol, 2),
        *_differences(own, "Trained in different ways", _training, 1),
        *_differences(own, "Measured on different machines or library versions", _machine, 1),
        *_unlike_seeds(table),
        *_trained_once(own),
        *_trained_on_test_images(own),
    ]


def rename(made: Made, name: str) -> dict[Run, Mapping[str, Any]]:
    """Return what made the runs of one model, under another name."""
    return {(dataset, suite, name, seed): of for (dataset, suite, _, seed), of in made.items()}


def behaviors_of(made: Made) -> dict[Model, list[str]]:
    """Return in what ways models are no functions of single images, where they are not."""
    found: dict[Model, list[str]] = {}
    for (dataset, suite, model, _), beside in sorted(made.items()):
        texts = beside.get("behavior", [])
        if not texts and beside.get("transductive"):  # as older versions said it
            texts = ["depends on the other images of its batch"]
        if texts:
            known = found.setdefault((dataset, suite, model), [])
            known += [str(text) for text in texts if text not in known]
    return found


def behavior_notes(made: Made) -> list[str]:
    """Return in what ways models are no functions of single images, a sentence for each way."""
    found: dict[str, dict[str, None]] = {}
    for (dataset, _, model), texts in behaviors_of(made).items():
        found.setdefault("; ".join(texts), {})[f"{model} ({dataset})"] = None
    return [f"{list_words(list(models))}: {text}." for text, models in found.items()]


def unequal_means(table: pd.DataFrame) -> dict[Model, tuple[str, str]]:
    """Return the models whose mean over corruptions is over others than that of most models.

    Returns:
        The conditions behind the mean of the model and behind that of most, in words.
    """
    found: dict[Model, tuple[str, str]] = {}
    table = table[["dataset", "suite", "model", "condition", "level"]].drop_duplicates()
    corrupted = table[table["condition"].isin(COMMON)]
    for (dataset, suite), part in corrupted.groupby(["dataset", "suite"], sort=False):
        sets = {
            str(model): frozenset(zip(rows["condition"], rows["level"].astype(float), strict=True))
            for model, rows in part.groupby("model", sort=False)
        }
        counts = Counter(sets.values())
        most = max(counts, key=lambda cells: (counts[cells], len(cells)))
        usual = describe_conditions(most)
        for model, cells in sets.items():
            if cells != most:
                found[str(dataset), str(suite), model] = describe_conditions(cells), usual
    return found


def describe_conditions(cells: Iterable[tuple[str, float]]) -> str:
    """Return conditions in words, whole families by their names: "noise, fog at 1, 3"."""
    groups = [g.partition("@") for g in headline(groups_of(frozenset(cells))) if g != "clean"]
    if any(name == "common" for name, _, _ in groups):
        groups = [g for g in groups if g[0] in ("common", "validation")]
    words = [
        name.replace("_", " ") + (f" at {levels.replace(',', ', ')}" if levels else "")
        for name, _, levels in groups
        if name != "noise+blur"
    ]
    return list_words(words)


def list_words(words: Sequence[str]) -> str:
    """Return a list of which only the first are named."""
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _differences(own: Made, what: str, settings: Settings, places: int) -> list[str]:
    """Sentences for the places in which runs differ in their settings; one for all that read alike.

    Args:
        settings: What made a run to its settings, by name.
        places: How many parts of a run's name a place is: 2 for a suite on a data set.
    """
    at: dict[tuple, dict[Run, Mapping[str, str]]] = {}
    for run, beside in own.items():
        at.setdefault(run[:places], {})[run] = settings(beside)
    bodies: dict[str, list[str]] = {}
    for place, here in at.items():
        if body := _list_values(_tell_apart(here)):
            bodies.setdefault(body, []).append(", ".join(place))
    return [f"{what} ({'; '.join(where)}): {body}." for body, where in bodies.items()]


def _tell_apart(here: Mapping[Run, Mapping[str, str]]) -> dict[str, dict[str, list[int]]]:
    """Models with their seeds, by those settings in words that not all runs share."""
    known: dict[str, set[str]] = defaultdict(set)
    for settings in here.values():
        for name, value in settings.items():
            known[name].add(value)
    found: dict[str, dict[str, list[int]]] = {}
    for (_, _, model, seed), settings in sorted(here.items()):
        apart = [name for name in settings if len(known[name]) > 1]
        words = [f"{n} {settings[n]}".strip() for n in apart if not n.startswith(CODE)]
        code = [f"{n} {settings[n]}" for n in apart if n.startswith(CODE)]
        if code:
            words.append(f"code {hashlib.sha256(' '.join(code).encode()).hexdigest()[:6]}")
        text = ", ".join(words[:SETTINGS]) + " and other settings" * (len(words) > SETTINGS)
        if text:
            seeds = found.setdefault(text, {}).setdefault(model, [])
            seeds += [seed] if seed not in seeds else []
    return found


def _list_values(values: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """Each value, the most frequent first, with the models that have it."""
    split = Counter(model for models in values.values() for model in models)
    parts = []
    for value, models in sorted(values.items(), key=lambda item: -len(item[1])):
        names = [
            model if split[model] == 1 else f"{model} seed {', '.join(map(str, seeds))}"
            for model, seeds in models.items()
        ]
        shown = f"{len(names)} models" if len(names) > NAMED else ", ".join(names)
        parts.append(f"{value} ({shown})")
    return "; ".join(parts)


def _images(beside: Mapping[str, Any]) -> dict[str, str]:
    return _known({"": str(beside.get("data", ""))[:8]})


def _count(beside: Mapping[str, Any]) -> dict[str, str]:
    count = beside.get("images")
    return _known({"": f"{count:,}" if type(count) is int else None})


def _protocol(beside: Mapping[str, Any]) -> dict[str, str]:
    """What was asked of a model, and by which code."""
    told = {"version": beside.get("version")}
    code = beside.get("code")
    of_suite = code.get("suite") if isinstance(code, Mapping) else None
    if isinstance(of_suite, Mapping):
        told |= {f"{CODE}{module}": digest for module, digest in of_suite.items()}
    return _known(told | {"dtype": beside.get("dtype")})


def _training(beside: Mapping[str, Any]) -> dict[str, str]:
    """What a training was told, the most telling first; of one without steps, its images."""
    training = beside.get("training")
    if not isinstance(training, Mapping):
        return {}
    recipe, arguments = training.get("recipe"), training.get("arguments")
    told = dict(recipe) if isinstance(recipe, Mapping) and recipe.get("epochs") != 0 else {}
    width = arguments.get("width") if isinstance(arguments, Mapping) else None
    told = {"epochs": told.pop("epochs", None), "width": width} | told
    told["training images"] = str(training.get("data", ""))[:8]
    return _known({n.replace("_", " "): v for n, v in told.items() if n not in NOT_OF_TRAINING})


def _machine(beside: Mapping[str, Any]) -> dict[str, str]:
    environment = beside.get("environment")
    if not isinstance(environment, Mapping):
        return {}
    device = re.sub(r", \d+ threads?$", "", str(environment.get("device", "")))
    versions = environment.get("versions")
    torch = versions.get("torch", "") if isinstance(versions, Mapping) else ""
    release = re.match(r"\d+\.\d+", str(torch))
    return _known({"": device, "torch": release and release[0]})


def _known(told: Mapping[str, Any]) -> dict[str, str]:
    """Settings as texts, without what is not known."""
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in told.items()
        if value is not None and value != ""
    }


def _unlike_seeds(table: pd.DataFrame) -> list[str]:
    """Models whose seeds were not all measured under the same conditions."""
    found = []
    columns = ["dataset", "suite", "model", "seed", "condition", "level"]
    table = table[columns].drop_duplicates()
    for (dataset, suite, model), rows in table.groupby(columns[:3], sort=False):
        cells = {
            frozenset(zip(of["condition"], of["level"], strict=True))
            for _, of in rows.groupby("seed")
        }
        if len(cells) > 1:
            found.append(f"{model} ({dataset}, {suite})")
    if not found:
        return []
    return [
        f"Seeds measured under different conditions: {list_words(found)}. A mean is over the "
        "seeds that have all of its conditions."
    ]


def _trained_once(own: Made) -> list[str]:
    """Seeds of a model that are of one training: of one file of weights, or brought by it."""
    seeds: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for (dataset, _, model, seed), beside in own.items():
        if weights := beside.get("weights"):
            seeds[dataset, model, str(weights)].add(seed)
    return [
        f"Seeds {', '.join(map(str, sorted(same)))} of {model} ({dataset}) have the same weights: "
        "they are one training, and the interval is too narrow."
        for (dataset, model, _), same in seeds.items()
        if len(same) > 1
    ]


def _trained_on_test_images(own: Made) -> list[str]:
    """Models that learned from images that they are tested on."""
    models: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    for (dataset, _, model, _), beside in own.items():
        training = beside.get("training")
        seen = training.get("seen") if isinstance(training, Mapping) else None
        if type(seen) is int:
            models[dataset, seen][model] = None
    return [
        f"{seen:,} test images of {dataset} are training images: {list_words(list(names))} learned "
        "from them."
        for (dataset, seen), names in models.items()
    ]
