"""One page that shows what is in a results folder, and what made it."""

from harness.report import answers, board, curves, glossary, libraries, page, pictures, runs
