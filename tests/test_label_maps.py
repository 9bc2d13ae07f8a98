from pathlib import Path

import pytest

from harness.models.imagenet import imagenet_classes
from harness.suites.label_maps import label_map


def test_imagenet_has_1000_classes_of_unique_names() -> None:
    classes = imagenet_classes()
    assert len({c.synset for c in classes}) == len({c.name for c in classes}) == 1000
    tabby = classes[281]
    assert (tabby.synset, tabby.name) == ("n02123045", "tabby") and "tabby cat" in tabby.others


@pytest.mark.parametrize(
    "folders",
    [
        ["n02123045", "n01440764", "n02206856"],
        ["281", "0", "309"],
        ["0281", "000", "0309"],
        ["tabby", "tench", "bee"],
        ["Tabby_Cat", "Tinca-tinca", "BEE"],
    ],
)
def test_folders_are_synsets_indices_or_names(folders: list[str]) -> None:
    found = label_map("imagenet", folders)
    assert found.index == (281, 0, 309) and len(found.classes) == 1000
    assert found.classes[281] == "tabby" and f"`{folders[1]}` is 0" in found.describe()


@pytest.mark.parametrize("name", ["crane", "maillot", "cardigan", "panda"])
def test_a_name_that_two_classes_share_names_neither(name: str) -> None:
    with pytest.raises(LookupError, match=f"`{name}`"):
        label_map("imagenet", [name, "tench"])


def test_the_first_name_goes_before_other_names() -> None:
    folders = ["crane bird", "polecat", "harp", "red panda"]
    assert label_map("imagenet", folders).index == (134, 358, 594, 387)


def test_one_way_for_all_folders() -> None:
    with pytest.raises(LookupError, match="called as the other folders.*`tabyb`.* `tabby`"):
        label_map("imagenet", ["tench", "bee", "tabyb"])
    with pytest.raises(LookupError, match="class of ImageNet"):
        label_map("imagenet", ["cats", "dogs"])


def test_two_folders_of_one_class_are_refused() -> None:
    with pytest.raises(ValueError, match="`tabby` and `tabby_cat` are both class 281"):
        label_map("imagenet", ["tabby", "tabby_cat"])


def written(tmp_path: Path, text: str) -> str:
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    return str(tmp_path / "map.csv")


def test_a_table_says_it_all(tmp_path: Path) -> None:
    path = written(tmp_path, "folder,index\ncat,3\ndog,5\nunused,1\n,7\n")
    found = label_map(path, ["cat", "dog"])
    assert found.index == (3, 5) and len(found.classes) == 8
    assert found.classes == (
        *("class 0", "unused", "class 2", "cat", "class 4", "dog", "class 6", "class 7"),
    )
    assert found.describe() == "Of 8 classes the data set has 2: `cat` is 3, `dog` is 5."


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "must begin with the line `folder,index`"),
        ("cat,3\n", "must begin with the line"),
        ("folder,index\ncat,x\n", "'cat,x' is no folder and index"),
        ("folder,index\ncat,-1\n", "is no folder and index"),
        ("folder,index\ncat,100000000\n", "is no folder and index"),
        ("folder,index\ncat,1,2\n", "is no folder and index"),
        ("folder,index\ncat,1\ncat,2\ndog,3\n", "has the folder 'cat' twice"),
        ("folder,index\ncat,1\n", "`dog`"),
        ("folder,index\ncat,1\ndog,1\n", "are both class 1"),
        ('folder,index\n"cat,1\ndog,1\n', "no folder and index"),
    ],
)
def test_a_table_that_is_none_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((ValueError, LookupError), match=message):
        label_map(written(tmp_path, text), ["cat", "dog"])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no.csv of labels. Give `imagenet`"):
        label_map(str(tmp_path / "no.csv"), ["cat"])
