"""`suites`, the import name of the first edition, as it is installed beside `harness`."""

from harness.models.aliases import alias

alias("suites", "harness.suites")
