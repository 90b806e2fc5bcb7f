"""Sets up a virtual environment and runs every check of the project: format, lint, types, tests.

python3 recipes/run_tests.py [arguments for pytest]
"""

from __future__ import annotations

import sys

from environment import environment_python, run


def main() -> None:
    """Run the checks in order; the first one to fail ends it with its exit code."""
    python = environment_python()
    run([python, "-m", "ruff", "format", "--check", "."])
    run([python, "-m", "ruff", "check", "."])
    run([python, "-m", "mypy"])
    run([python, "-m", "pytest", *sys.argv[1:]])


if __name__ == "__main__":
    main()
