"""Verdicts of a check as JUnit XML and as Markdown.

Names come from files that anybody may have written: XML escapes them, and Markdown shows them as
they are.
"""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from harness.comparison.guards import INCONCLUSIVE, MISSING, PASS, WORSE, Guard, overall
from harness.comparison.names import write_name

SIGNS = {PASS: "✅", WORSE: "❌", INCONCLUSIVE: "❔", MISSING: "⛔"}


def describe(guard: Guard) -> str:
    """Return a guard's numbers in one line."""
    if math.isnan(guard.difference):
        return guard.reason
    text = (
        f"{guard.baseline:.4f} before, {guard.new:.4f} now, better by {guard.difference:+.4f} "
        f"[{guard.low:+.4f}, {guard.high:+.4f}], margin {guard.margin:g}"
    )
    return f"{text}: {guard.reason}" if guard.reason else text


def junit(guards: Sequence[Guard]) -> bytes:
    """Return JUnit XML: worse is a failure, missing an error, inconclusive skipped."""
    counts = {v: sum(g.verdict == v for g in guards) for v in SIGNS}
    totals = {
        "tests": str(len(guards)),
        "failures": str(counts[WORSE]),
        "errors": str(counts[MISSING]),
        "skipped": str(counts[INCONCLUSIVE]),
        "time": "0",
    }
    root = ET.Element("testsuites", {"name": "harness check", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": "harness check", **totals})
    kinds = {WORSE: "failure", MISSING: "error", INCONCLUSIVE: "skipped"}
    for guard in guards:
        key = guard.key
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": f"{key.dataset}.{key.suite}.{key.model}",
                "name": guard.name,
                "time": "0",
            },
        )
        if guard.verdict in kinds:
            message = {"message": describe(guard), "type": guard.verdict}
            ET.SubElement(case, kinds[guard.verdict], message)
        ET.SubElement(case, "system-out").text = describe(guard)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&~@:-])", lambda m: f"&#{ord(m[1])};", text)


def markdown(guards: Sequence[Guard]) -> bytes:
    """Return a Markdown summary: the verdict, then a table."""
    verdict = overall(list(guards))
    lines = [
        f"### {SIGNS[verdict]} {verdict}",
        "",
        "| | data set | suite | model | metric | condition | before | now | change | 95 % interval "
        "| margin | note |",
        "|---|---|---|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for guard in guards:
        key, known = guard.key, not math.isnan(guard.difference)
        names = (key.dataset, key.suite, key.model, write_name(*key.name), key.group)
        cells = [f"{SIGNS[guard.verdict]} {guard.verdict}", *(escape(name) for name in names)]
        cells += [f"{v:.4f}" if math.isfinite(v) else "" for v in (guard.baseline, guard.new)]
        cells += [f"{guard.difference:+.4f}", f"{guard.low:+.4f} to {guard.high:+.4f}"] * known
        cells += ["", ""] * (not known)
        lines.append("| " + " | ".join([*cells, f"{guard.margin:g}", escape(guard.reason)]) + " |")
    lines += [
        "",
        "A change is positive where it is for the better. *worse*: the interval lies below "
        "-margin; *pass*: above it.",
    ]
    return ("\n".join(lines) + "\n").encode()
