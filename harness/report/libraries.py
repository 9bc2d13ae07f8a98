"""The libraries that the page works with, as scripts to put into it.

Vega-Lite draws (BSD 3-clause; `vl-convert-python` carries it), DataTables sorts and filters (MIT;
`itables` carries it). They go into the page whole, so that it needs no network. Each is named by
its hash in the page's content security policy: nothing else is executed, whatever a name says.
"""

import base64
import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from harness.refusal import Refusal

NEEDED = {"itables": "itables", "jinja2": "jinja2", "vl_convert": "vl-convert-python"}  # the extra
VEGA_LICENSE = "/*! Vega, Vega-Lite and Vega-Embed: see the end of the page for their license. */\n"


def require() -> None:
    """Refuse to go on without the libraries.

    Raises:
        Refusal: One is not installed.
    """
    for name, package in NEEDED.items():
        if find_spec(name) is None:
            cure = f"pip install {' '.join(NEEDED.values())}"
            raise Refusal(f"The report needs `{package}`. Run `{cure}`.")


def charts() -> str:
    """Return a script that defines `vegaEmbed`."""
    import vl_convert

    return inline(VEGA_LICENSE + vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def tables() -> str:
    """Return a module that defines `DataTable` on the window.

    Raises:
        Refusal: The bundle of `itables` is not what it was.
    """
    spec = find_spec("itables")  # the folder alone: nothing of the package is imported
    assert spec is not None and spec.submodule_search_locations, "see `require`"
    bundle = Path(spec.submodule_search_locations[0]) / "html" / "dt_bundle.js"
    source = bundle.read_text(encoding="utf-8")
    # A script in a page exports to nobody; its own names are reached from inside alone.
    name = re.search(r"\bexport\s*\{[^}]*?([\w$]+) as default\b[^}]*\}", source)
    if name is None:
        raise Refusal(f"{bundle} exports no DataTable. Install another version of `itables`.")
    head, tail = source[: name.start()], source[name.end() :].removeprefix(";")
    return inline(f"{head}\nwindow.DataTable={name[1]};{tail}")


def inline(script: str) -> str:
    """Return a script as it can stand between <script> and </script>.

    The parser of the page must not see a tag or a comment where the script has a string or a
    regular expression about tags; there `\\x3C` is the same character.
    """
    script = script.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"<(?=!--|/?script)", r"\\x3C", script, flags=re.IGNORECASE)


def source_hash(script: str) -> str:
    """Return the name of a script in a content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
