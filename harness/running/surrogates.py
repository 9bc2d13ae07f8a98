"""The networks that `--transfer-from` names, with their weights, for the suites that take them."""

from dataclasses import replace

from harness.models.lookup import Source, source
from harness.refusal import Refusal, user_input
from harness.running.data import Data, prepared
from harness.running.initial import initialize
from harness.running.options import Options
from harness.running.weights import find_weights
from harness.storage import checkpoints
from harness.suites.base import Surrogate
from harness.suites.datasets import Split

OPTION = "--transfer-from"


def surrogates(
    name: str, data: Data, split: Split, seed: int, options: Options
) -> tuple[Surrogate, ...]:
    """Return the networks that were asked for, but for the model itself.

    Args:
        name: Of the model; `split` are its test images.
        seed: Training seed, theirs as well.

    Raises:
        Refusal: There is no such model, or it has no weights yet.
    """
    own = replace(options, weights=(), name="")
    with user_input():
        asked = [prepared(source(other), own) for other in dict.fromkeys(options.transfer_from)]
    return tuple(_open(src, data, split, seed, own) for src in asked if src.name != name)


def _open(src: Source, data: Data, split: Split, seed: int, own: Options) -> Surrogate:
    weights = find_weights(src, src.name, (data.name, data.spec), split, seed, own)
    if weights.file is None and not src.pretrained:
        fact = f"There are no weights for `{src.name}`, seed {seed}, at {weights.path}"
        if weights.stale:
            fact = f"The weights at {weights.path} are of no use here: {weights.stale}"
        raise Refusal(
            f"{fact}, which `{OPTION}` needs. Run `harness train --model {src.name} --dataset "
            f"{data.spec} --seed {seed}` first."
        )
    wide = {"width": weights.description.get("arguments", {}).get("width", split.width)}
    arguments = wide if src.scalable else {}
    model = initialize(lambda: src.build(num_classes=data.classes, **arguments), seed)
    if weights.file is not None:
        state, _ = checkpoints.read(weights.file, foreign=True)
        checkpoints.load(model, state, str(weights.file))
    model.eval().requires_grad_(False)
    return Surrogate(src.name, checkpoints.digest(model.state_dict()), model)
