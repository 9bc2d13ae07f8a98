import re

import pytest

from harness.models import papers
from harness.models.papers import Paper

PAPERS = [p for p in vars(papers).values() if isinstance(p, Paper)]


@pytest.mark.parametrize("paper", PAPERS, ids=[p.key for p in PAPERS])
def test_an_entry_is_whole_bibtex(paper: Paper) -> None:
    entry = paper.bibtex()
    assert entry.count("{") == entry.count("}")
    assert re.match(rf"@(article|inproceedings|misc){{{paper.key},\n", entry)
    for name in ("author", "title", "year", "url"):
        assert len(re.findall(rf"^  {name} = {{.+}},?$", entry, re.M)) == 1
    assert paper.link.startswith("https://")


def test_keys_are_unique() -> None:
    assert len({p.key for p in PAPERS}) == len(PAPERS)
