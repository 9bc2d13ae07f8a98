"""Names to jobs: every name, file and weight is checked here, before any work.

A `Job` is one model with one set of weights on one data set, and the suites that it is evaluated
on; `execute` does what is planned. A network is built only where the registry does not say what can
be done with it: a user's, or one whose weights come from a file.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.models.base import Augmenting, capabilities, check_images
from harness.models.catalog import CATALOG
from harness.models.lookup import Source, source
from harness.models.preprocessing import (
    NETWORK,
    Preprocessing,
    cure_for,
    preprocessing_of,
)
from harness.models.source_code import code_of, digest, settings_of
from harness.models.user_code import check_names
from harness.progress import Progress
from harness.refusal import Refusal, describe_error, user_input
from harness.running.behavior import PROBED, probe
from harness.running.data import Data, describe_preprocessing, prepared
from harness.running.evaluate import dtype_for, spread_evenly
from harness.running.jobs import Evaluation, Job
from harness.running.labels import among_mapped
from harness.running.options import Options, check_taken
from harness.running.overwriting import refuse_other
from harness.running.recipes import describe_recipe, flags
from harness.running.surrogates import surrogates
from harness.running.weights import find_weights, with_own_weights
from harness.running.writable import check_name, check_seeds, check_writable
from harness.storage import checkpoints, results
from harness.suites.base import Setting, Suite
from harness.suites.catalog import SUITES
from harness.suites.dataset_names import check_datasets
from harness.suites.datasets import Split, as_input
from harness.suites.lookup import metric_of, suite_of, with_metrics


def plan(
    models: Sequence[str | Source],
    datasets: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    options: Options,
    progress: Progress | None = None,
) -> list[Job]:
    """Check everything that was asked for, and list the work.

    Args:
        seeds: Training seeds; empty takes that of `--weights`, or 0.
        progress: Shows that pictures are read, where that takes long.

    Raises:
        Refusal: A name that is not there, missing data or weights, files that are damaged or do not
            fit what was asked for, results of something else that would be overwritten, a folder
            that cannot be written.
    """
    options.check()
    check_seeds(seeds)
    wanted: Sequence[int | None] = seeds or [None]
    with user_input():
        sources = [m if isinstance(m, Source) else source(m) for m in models]
        metrics = [metric_of(name) for name in options.metrics]
        questions = [(name, with_metrics(suite, metrics)) for name, suite in map(suite_of, suites)]
        check_names(models, suites, options.corruptions, options.metrics)
        check_datasets(datasets)
    check_taken(suites, options)
    if options.weights:
        _check_weights(options.weights, len(models), len(seeds))
    if options.name:
        check_name(options.name, len(models))
    jobs = []
    for spec in datasets:
        with user_input():
            data = Data(spec, options, progress)
        for i, src in enumerate(sources):
            own = replace(options, weights=options.weights[i : i + 1])
            if not own.weights:
                src = with_own_weights(src, data.name, data.classes, options)
            with user_input():
                told = prepared(src, own)
                split = data.framed(told, own.weights)
                setting = data.setting(split)
            if options.mapped_only:
                told = among_mapped(told, data.labels)
            for seed in wanted:
                job = _job(told, data, split, seed, own)
                others = surrogates(job.source.name, data, split, job.seed, own)
                seeing = replace(setting, surrogates=others)
                jobs.append(_with_evaluations(job, questions, seeing, own))
    check_writable(jobs, options.root)
    check_fairness(jobs, options)
    for job in jobs:
        _refuse_overwriting(job, options)
    return jobs


def _check_weights(files: Sequence[Path], models: int, seeds: int) -> None:
    if len(files) != models:
        raise Refusal(
            f"There are {len(files)} `--weights` for {models} models. Give one for each, in the "
            "order of the models, or none."
        )
    if seeds > 1:
        raise Refusal(f"`--weights {files[0]}` are of one training; got {seeds} seeds. Give one.")


def check_fairness(jobs: Sequence[Job], options: Options) -> None:
    """Refuse to train a model longer or otherwise than those it will be compared with.

    Raises:
        Refusal: Names both.
    """
    for new in jobs:
        if new.trained or new.fitted:
            continue
        wanted = describe_recipe(new.recipe(new.split, options).described())
        for old in jobs:
            if old.own_loss != new.own_loss:  # each kind has its usual recipe
                continue
            recipe_of_old = old.weights.description.get("recipe") or {}
            found = describe_recipe(recipe_of_old) if recipe_of_old else wanted
            if old.dataset == new.dataset and not old.fitted and found != wanted:
                raise Refusal(
                    f"On {new.dataset}, `{old.source.name}` was trained for {found}, and "
                    f"`{new.source.name}` would be for {wanted}. Give "
                    f"`{flags(recipe_of_old)}`, or start another folder with `--results`."
                )


def _job(src: Source, data: Data, split: Split, seed: int | None, options: Options) -> Job:
    """One job without evaluations, its weights checked against what was asked for."""
    named = replace(src, name=options.name) if options.name else src
    place, labels = (data.name, data.spec), data.labels
    weights = find_weights(named, src.name, place, split, seed, options)
    seed = weights.description.get("seed", 0) if seed is None else seed
    width = options.width
    if not src.scalable:
        if width is not None:
            raise Refusal(f"`{src.name}` has no width to choose. Leave out `--width {width}`.")
    elif width is None:
        width = weights.description.get("arguments", {}).get("width", split.width)
    if options.weights or src.pretrained:
        weights = weights.add_notes(data.notes(split))
    job = Job(named, *place, split, seed or 0, (), weights, width, labels)
    if labels is not None and (not options.weights and not src.pretrained):
        raise Refusal(
            f"`--labels {options.labels}` is for a network that has learned these classes, and "
            f"`{named.name}` has no weights. Give them with `--weights`, or leave it out."
        )
    if not job.trained and not options.may_train:
        fact = f"There are no weights for `{named.name}`, seed {job.seed}, at {weights.path}"
        if weights.stale:
            fact = f"The weights at {weights.path} are of no use here: {weights.stale}"
        raise Refusal(
            f"{fact}. Run `harness train --model {src.name} --dataset {data.spec} "
            f"--seed {job.seed}` first."
        )
    return job


def _with_evaluations(
    job: Job,
    questions: Sequence[tuple[str, Suite]],
    setting: Setting,
    options: Options,
) -> Job:
    """The job with the suites it is evaluated on."""
    plain = options.preprocessing == NETWORK and not options.weights
    if job.source.ours and job.source.name in CATALOG and plain:
        can = frozenset(CATALOG[job.source.name].capabilities)
    else:
        with user_input():
            model = job.build()
            if job.weights.file is not None:
                state: dict[str, Tensor] = checkpoints.read(job.weights.file, foreign=True)[0]
                notes = checkpoints.load(model, state, str(job.weights.file))
                job = replace(job, weights=job.weights.add_notes(notes))
            said = preprocessing_of(model)
            if not job.source.ours:
                settings = settings_of(model)
                if said:
                    settings = digest({settings: repr(said)}, code_of(Preprocessing))
                job = replace(job, settings=settings)
            check_model(job, model)
            if said or (job.trained and "recipe" not in job.weights.description):
                note = describe_preprocessing(job.source.name, said, job.split)
                job = replace(job, weights=job.weights.add_notes([note]))
            can = capabilities(model.eval())
        if not job.source.ours and questions:
            images = as_input(job.split.images[spread_evenly(len(job.split), PROBED)])
            found = probe(model, images, options.batch_size, job.source.name)
            job, can = replace(job, behavior=found), can | found.kinds
        job.built.append(model)
    setting = replace(setting, can=can)
    with user_input():
        evaluations = tuple(
            Evaluation(
                name,
                suite,
                suite.cells(setting),
                _dataset_in_tables(job, suite, setting),
                _model_in_tables(job, suite, options),
                setting,
                code_of(SUITES[name]),
            )
            for name, suite in questions
        )
    return replace(job, evaluations=evaluations)


def _dataset_in_tables(job: Job, suite: Suite, setting: Setting) -> str:
    """The data set's name in tables, which tells other images from its own."""
    drawn = f"[image seed {setting.seed}]" if setting.seed else ""
    return job.dataset + job.split.mark + suite.variant(setting) + drawn


def _model_in_tables(job: Job, suite: Suite, options: Options) -> str:
    """The model's name in tables, which tells other arithmetic or company from the usual."""
    dtype = dtype_for(suite, options.dtype)
    marks = [f"[{dtype}]"] if dtype != "float32" else []
    if job.behavior.batch and options.batch_size:
        marks.append(f"[batch {options.batch_size}]")
    return job.source.name + "".join(marks)


def _refuse_overwriting(job: Job, options: Options) -> None:
    """Refuse to write where numbers of something else lie."""
    weights = checkpoints.digest(job.built[0].state_dict()) if job.built and job.trained else None
    for one in job.evaluations:
        place = one.dataset, one.name, one.model, job.seed
        path = results.csv_path(options.root, *place)
        refuse_other(path, one.model, job.origin, job.source.code, weights)


def check_model(job: Job, model: nn.Module) -> None:
    """Refuse a model that does not give logits (N, num_classes) for the data set's images.

    One that augments must give images in [0, 1] again, of the test set's first two.

    Raises:
        Refusal: Says what it gives.
    """
    size, classes = job.split.image_size, len(job.split.classes)
    if isinstance(model, Augmenting):
        images = as_input(job.split.images[:2])
        check_images(model.augment(images, torch.Generator().manual_seed(job.seed)))
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, 3, size, size))
    except Exception as error:
        if job.source.ours:
            raise
        raise Refusal(
            f"`{job.source.name}` cannot be asked about images (2, 3, {size}, {size}) of "
            f"`{job.dataset}`: {describe_error(error)} {cure_for(model, size)}"
        ) from error
    if isinstance(logits, tuple | list | dict):
        raise Refusal(
            f"`{job.source.name}` gives a {type(logits).__name__} of {len(logits)}; a model gives "
            "logits alone, a tensor (N, num_classes). Return them, or wrap it in a module that "
            "does."
        )
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, classes) and job.labels is not None:
        raise Refusal(
            f"`{job.source.name}` gives {shape} for 2 images, and the labels name {classes} "
            "classes. A line `,999` in a CSV of labels says that there are 1,000."
        )
    if shape != (2, classes):
        raise Refusal(
            f"`{job.source.name}` gives {shape} for 2 images; `{job.dataset}` has {classes} "
            f"classes and needs (2, {classes}). Build it with `num_classes={classes}`, or choose "
            "the data set that its weights were trained on."
        )
