"""Which attacks the suite `adversarial` makes, in which order, at which eps.

In each norm every image is attacked

    once for its distance to the nearest point that is misclassified, by FAB-T;
    then at every eps of a grid, from the smallest to the largest, by short attacks;
    at one eps of them, that of leaderboards, by AutoAttack's `standard` with its whole budgets;

and an image that is broken at a distance is broken at every eps from there on, so that it is not
attacked again. Short attacks and a short FAB-T are enough where an image is far from its eps.

    classes    `standard`                            reason
    4 or more  APGD-CE, APGD-T, FAB-T, Square        as published
    3          APGD-CE, APGD-DLR, FAB-T, Square      the targeted DLR loss needs 4 classes
    2          APGD-CE, FAB-T, Square                the DLR loss needs 3

Networks that draw random numbers have `rand` in its place, and no FAB-T and no Square: both compare
single answers.
"""

from harness.suites.attacks.ensembles import ENSEMBLES, Entry
from harness.suites.attacks.subjects import DRAWS

FEWEST = {"apgd_dlr": 3, "apgd_t": 4}  # classes that an attack needs
NEAREST = Entry("fab_t", {"iterations": 10, "targets": 4, "nearest": True})
SHORT = Entry("apgd_ce", {"iterations": 20})


def standard(num_classes: int) -> tuple[Entry, ...]:
    """Return AutoAttack's `standard` as far as so many classes allow."""
    found = []
    for entry in ENSEMBLES["standard"]:
        if num_classes >= FEWEST.get(entry.attack, 2):
            found.append(entry)
        elif num_classes >= FEWEST["apgd_dlr"]:
            found.append(Entry("apgd_dlr", {"iterations": 100, "restarts": 1}))
    return tuple(found)


def rand(num_classes: int) -> tuple[Entry, ...]:
    """Return AutoAttack's `rand` as far as so many classes allow."""
    return tuple(e for e in ENSEMBLES["rand"] if num_classes >= FEWEST.get(e.attack, 2))


def short(random: bool) -> Entry:
    """Return the attack of every other eps."""
    return Entry(SHORT.attack, {**SHORT.settings, "draws": DRAWS}) if random else SHORT
