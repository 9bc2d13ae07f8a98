"""BibTeX of a model's papers, and of this program."""

from harness.models.catalog import CATALOG
from harness.refusal import Refusal, unknown
from harness.storage.provenance import version

SOFTWARE = """@misc{{harness2026,
  author = {{{{The harness authors}}}},
  title = {{{{harness: Benchmark and robustness evaluation of image classifiers inspired by
    differential equations}}}},
  year = {{2026}},
  note = {{Version {version}}}
}}"""


def bibtex_of(name: str) -> str:
    """Return the entries of a model's papers, or the one of `harness`.

    Raises:
        Refusal: There is no such model, or it has no paper.
    """
    if name == "harness":
        return SOFTWARE.format(version=version())
    if name not in CATALOG:
        raise unknown("model", name, [*CATALOG, "harness"])
    papers = CATALOG[name].papers
    if not papers:
        nulls = [entry.name for entry in CATALOG.values() if name in entry.nulls]
        beside = f"; it is the null model of {', '.join(nulls)}" if nulls else ""
        raise Refusal(f"`{name}` has no paper{beside}. See `harness list models --long`.")
    return "\n\n".join(paper.bibtex() for paper in papers)
