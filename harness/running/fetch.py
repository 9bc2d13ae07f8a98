"""The published corrupted files, fetched or made again, into the data folder."""

from collections.abc import Callable
from pathlib import Path

from torchvision.datasets.utils import download_and_extract_archive

from harness.refusal import Refusal
from harness.suites.datasets import load
from harness.suites.published import OF_DATASET, REPEATABLE, SOURCES, TABLES, published
from harness.suites.published import regenerate as make_again


def corrupted(name: str, root: Path, regenerate: bool, tell: Callable[[str], None]) -> list[Path]:
    """Bring the files of "cifar10_c" or "cifar100_c" into the data folder, and verify each by MD5.

    Args:
        root: The data folder; the files lie in CIFAR-10-C or CIFAR-100-C below it.
        regenerate: Make those that draw nothing from the test set, in place of downloading all.
        tell: Called with a line for each file as it is made.

    Raises:
        Refusal: The test set is not there, or nothing can be downloaded.
        Refusal: A file is not the published one.
    """
    dataset = name.removesuffix("_c")
    title = OF_DATASET[dataset]
    folder = root / title
    if regenerate:
        split = load(dataset, train=False, root=root)
        paths = make_again(folder, split.images, split.labels, REPEATABLE, TABLES[title], tell)
        published(title, folder).verify(REPEATABLE)
        return paths
    files = published(title, folder)
    if not all(files.path(n).is_file() for n in TABLES[title]):
        address = f"{SOURCES[title]}/files/{title}.tar"
        try:
            download_and_extract_archive(address, str(root), remove_finished=True)
        except (OSError, RuntimeError) as error:
            raise Refusal(
                f"{title}.tar cannot be fetched: {error}. Fetch {address} on another machine and "
                f"unpack it in {root}, or make the {len(REPEATABLE)} files that draw nothing with "
                f"`harness data {name} --regenerate`."
            ) from None
    files.verify([n for n in TABLES[title] if n != "labels"])
    return [files.path(n) for n in TABLES[title]]
