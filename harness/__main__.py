"""`python -m harness` is the command `harness`."""

import sys

from harness.cli import main

if __name__ == "__main__":
    sys.argv[0] = "harness"  # as files tell which command wrote them
    main()
