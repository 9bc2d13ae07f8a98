"""`python -m harness` is the command `harness`."""

import sys

from harness import stopping
from harness.refusal import cramped


def main() -> None:
    """Run the command line; signals are heard before anything large is imported."""

    def program() -> None:
        if sentence := cramped():
            sys.exit(sentence)
        from harness.cli import main

        main()

    stopping.run(program)


if __name__ == "__main__":
    sys.argv[0] = "harness"  # as files tell which command wrote them
    main()
