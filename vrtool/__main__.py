"""`python -m vrtool` is the same as `vrtool`."""

from vrtool.cli import main

if __name__ == "__main__":
    main()
