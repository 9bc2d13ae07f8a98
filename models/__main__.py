"""Make catalog.json again: `python -m harness.models`."""

import json

from harness.models.catalog import FILE, rows

if __name__ == "__main__":
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(FILE)  # noqa: T201
