"""What a run would overwrite: refused where it is of something else, before any work.

The numbers of one model with changed code or with weights trained again take the place of the old
ones, and the program says so. Another model, other weights or other images under the same name do
not: they need a name of their own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.models.source_code import Code, digest
from harness.models.user_code import origin_of
from harness.refusal import Refusal
from harness.storage import results

TRAINED, BROUGHT = {"of": "trained"}, {"of": "builder"}


def describe_weights(file: Path | None, trained: Path, pretrained: bool) -> dict[str, str]:
    """Return where weights come from, as a run's JSON has it."""
    if pretrained:
        return dict(BROUGHT)
    return dict(TRAINED) if file in (None, trained) else origin_of(file or trained)


def refuse_other(
    path: Path,
    model: str,
    origin: Mapping[str, Any],
    code: Code,
    weights: str | None,
) -> None:
    """Refuse to overwrite the run at `path` if it is of something else.

    Args:
        path: CSV that would be written.
        origin: `model` and `weights` of the new run, as its JSON will have them.
        code: Of the new model.
        weights: Digest of the state; None where it is trained first.

    Raises:
        Refusal: Says of what it is, and the cure.
    """
    here = _read(path) or {}
    before = here.get("origin")
    if not isinstance(before, dict):
        return
    same_code = digest(here.get("code", {}).get("model", {})) == digest(code)
    if before["model"] != origin["model"] and not same_code:
        raise Refusal(
            f"{path} has the numbers of another model, `{model}` of {before['model']['of']}. Give "
            "this one another name with `--name`, or another folder with `--results`."
        )
    if before["weights"] == origin["weights"] != BROUGHT or weights == here.get("weights"):
        return
    raise Refusal(
        f"{path} has the numbers of other weights ({_spell(before['weights'])}). Give these "
        "another name with `--name`, or another folder with `--results`."
    )


def _spell(weights: Mapping[str, str]) -> str:
    words = {"trained": "trained here", "builder": "that the model brought"}
    return words.get(weights["of"], weights["of"])


def _read(path: Path) -> dict[str, Any] | None:
    """What a run's JSON says; None where there is none, or a damaged one, to be written again."""
    try:
        return results.read_provenance(path.with_suffix(".json"))
    except Refusal:
        return None
