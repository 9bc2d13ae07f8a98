"""The commands; parses, calls, prints."""

from harness.cli.app import app, main
from harness.cli import running, reading, comparing, reporting, studying, showing, listing
from harness.cli import publishing, merging, cleaning, submitting
