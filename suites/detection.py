"""Whether a score of single images tells a data set from another, and what each image adds to that.

x are the scores of N images of the data set, y those of M images of the other; the larger, the more
an image looks like one of the data set, which is the positive class.

    auroc  share of the pairs with x > y, ties counting half
    aupr   mean over x of the share of x among all scores >= it
    fpr95  share of the y >= t, t being the largest threshold that 95 % of the x reach

The influences (N,) and (M,) are what one image more of a kind does to the number, times its count,
and have a mean of 0: (sum of squares) / N² + (the same) / M² is the variance of the number. That of
auroc is DeLong's.

Reference: D. Hendrycks and K. Gimpel, A Baseline for Detecting Misclassified and
Out-of-Distribution Examples in Neural Networks, ICLR 2017, https://arxiv.org/abs/1610.02136 (the
largest probability, auroc, aupr); W. Liu et al., Energy-based Out-of-distribution Detection,
NeurIPS 2020, https://arxiv.org/abs/2010.03759 (energy, fpr95); E. R. DeLong et al., Comparing the
areas under two or more correlated receiver operating characteristic curves, Biometrics 44(3), 1988.
"""

from collections.abc import Callable, Mapping

import numpy as np

from harness.suites.calibration import by_block

Influences = tuple[np.ndarray, np.ndarray]
Found = tuple[np.ndarray, np.ndarray]  # outcomes and positions of images


def max_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the log-odds (N,) of the largest probability of logits (N, K).

    They are ordered as it is, and unlike it not rounded to 1 where a network is sure.
    """
    from scipy.special import logsumexp

    ordered = np.sort(logits.astype(np.float64), axis=1)
    if ordered.shape[1] == 1:
        return np.zeros(len(ordered))
    return ordered[:, -1] - logsumexp(ordered[:, :-1], axis=1)


def energy(logits: np.ndarray) -> np.ndarray:
    """Return log sum exp (N,) of logits (N, K): minus the energy at temperature 1."""
    from scipy.special import logsumexp

    return logsumexp(logits.astype(np.float64), axis=1)


SCORES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "max softmax": max_softmax,
    "energy": energy,
}


def auroc(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area under the ROC curve: the Mann-Whitney count over the number of pairs."""
    ordered = np.sort(y)
    twice = np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")
    return int(twice.sum()) / (2 * len(x) * len(y))


def aupr(x: np.ndarray, y: np.ndarray) -> float:
    """Return the average precision; it depends on N / M, a random score having N / (N + M)."""
    inside, outside = _reached(x, x), _reached(y, x)
    return float((inside / (inside + outside)).mean())


def fpr95(x: np.ndarray, y: np.ndarray) -> float:
    """Return the false positive rate at a true positive rate of at least 95 %."""
    return float((y >= threshold(x, 95)).mean())


def threshold(x: np.ndarray, percent: int) -> float:
    """Return the largest threshold that so many per cent of the scores reach, at least one."""
    count = max(1, -(-percent * len(x) // 100))
    return float(np.sort(x)[len(x) - count])


def _reached(scores: np.ndarray, at: np.ndarray) -> np.ndarray:
    """How many scores are not below each value."""
    return len(scores) - np.searchsorted(np.sort(scores), at, "left")


def _share_below(scores: np.ndarray, at: np.ndarray) -> np.ndarray:
    ordered = np.sort(scores)
    left, right = (np.searchsorted(ordered, at, side) for side in ("left", "right"))
    return (left + right) / (2 * len(scores))


def _of_auroc(x: np.ndarray, y: np.ndarray) -> Influences:
    """DeLong's placements: how many of the others an image is ordered rightly with."""
    return _share_below(y, x), 1 - _share_below(x, y)


def _of_aupr(x: np.ndarray, y: np.ndarray) -> Influences:
    """Of precision T / (T + c F), T and F being the shares that reach a threshold, c = M / N."""
    true, false, ratio = _reached(x, x) / len(x), _reached(y, x) / len(y), len(y) / len(x)
    whole = true + ratio * false
    order = np.argsort(x, kind="stable")

    def summed(weights: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Mean over x of the weights of those that a score reaches."""
        total = np.append(0, np.cumsum(weights[order])) / len(x)
        return total[np.searchsorted(x[order], at, "right")]

    by_true, by_false = ratio * false / whole**2, -ratio * true / whole**2
    return true / whole + summed(by_true, x), summed(by_false, y)


def _of_fpr95(x: np.ndarray, y: np.ndarray) -> Influences:
    """Of the share at the threshold, which moves with x as steeply as the ROC curve is there."""
    at, ordered = threshold(x, 95), np.sort(x)
    place = int(np.searchsorted(ordered, at, "right")) - 1
    near = min(int(np.sqrt(len(x))), -(-place // 2)) + 1
    low, high = ordered[max(0, place - near)], ordered[min(len(x) - 1, place + near)]
    rise = (x >= low).mean() - (x >= high).mean()
    slope = ((y >= low).mean() - (y >= high).mean()) / rise if rise else 0.0
    return -slope * (x >= at), (y >= at).astype(float)


MEASURES: Mapping[str, tuple[Callable[..., float], Callable[..., Influences]]] = {
    "ood_auroc": (auroc, _of_auroc),
    "ood_aupr": (aupr, _of_aupr),
    "ood_fpr95": (fpr95, _of_fpr95),
}


def influences(name: str, x: np.ndarray, y: np.ndarray) -> Influences:
    """Return what each image adds to a measure, (N,) and (M,), of mean 0."""
    inside, outside = MEASURES[name][1](x, y)
    return inside - inside.mean(), outside - outside.mean()


def scores(arrays: Mapping[str, np.ndarray], score: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores x and y of the arrays of a cell; each image of the others counts once."""
    counted = arrays["out_indices"] >= 0
    of_rows = by_block(SCORES[score])
    return of_rows(arrays["in_logits"]), of_rows(arrays["out_logits"][counted])


def outcomes(name: str) -> Callable[[Mapping[str, np.ndarray], str], Found | None]:
    """Return the function of a cell's arrays and a score to (N + M,) values, and their positions.

    The values have the measure as their mean, and their variance over N + M is its variance. They
    are all alike where a score parts the sets, and tell nothing of it. Positions of the others are
    below 0.
    """

    def of_cell(arrays: Mapping[str, np.ndarray], score: str) -> Found | None:
        if "out_logits" not in arrays or score not in SCORES:
            return None
        x, y = scores(arrays, score)
        value, total = MEASURES[name][0](x, y), len(x) + len(y)
        inside, outside = influences(name, x, y)
        values = value + total * np.concatenate([inside / len(x), outside / len(y)])
        counted = arrays["out_indices"][arrays["out_indices"] >= 0]
        positions = np.concatenate([arrays["indices"], -1 - counted])
        return values, positions

    return of_cell
