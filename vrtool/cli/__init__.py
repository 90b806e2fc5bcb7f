"""The command line: `vrtool COMMAND ...`. Each command has a file here that wires options to the library, no more.

Heavy packages (torch, numba, h5py) are imported inside the commands, so that `vrtool --help` answers at once.
"""

from __future__ import annotations

import functools
import io
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from vrtool.atomic import DISK_FULL
from vrtool.cli import evaluate, import_checkpoint, inspect_dataset, prepare, report, separate, train
from vrtool.cli.console import errors
from vrtool.errors import InterruptedRunError, SaidElsewhereError, VrtoolError

app = typer.Typer(
    name="vrtool",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """Make Ctrl-C one of our errors before typer sees it, which would leave with 130 and without a word."""

    @functools.wraps(command)
    def interruptible(**options: object) -> None:
        try:
            command(**options)
        except KeyboardInterrupt as error:
            raise InterruptedRunError("interrupted; what was finished is kept") from error

    return interruptible


for command in (
    prepare.prepare,
    inspect_dataset.inspect_dataset,
    train.train,
    report.report,
    separate.separate,
    evaluate.evaluate,
    import_checkpoint.import_checkpoint,
):
    app.command()(_interruptible(command))


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"vrtool {version('vrtool')}")
        raise typer.Exit


@app.callback()
def _vrtool(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error. May stand anywhere.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Prepare libraries of audio, train a vocal remover on them, and separate songs."""


def main() -> None:
    """Run the command line and leave with its exit code: 0 done, 1 a job failed, 2 it was asked for wrongly."""
    debug = "--debug" in sys.argv
    if debug:
        # Known to the top command alone, wherever a person puts it.
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A song's name shall not end a command because the terminal has no letters for it.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SaidElsewhereError as error:
        sys.exit(error.exit_code)
    except VrtoolError as error:
        _fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        _fail("interrupted", 1, debug)
    except (NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError) as error:
        _fail(f"{error.filename}: {error.strerror}; name a path where a file or folder can be written", 2, debug)
    except OSError as error:
        _fail(_describe(error), 1, debug)
    except Exception as error:
        _fail(_describe_unexpected(error), 1, debug)


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in DISK_FULL:
        return f"{where}the disk is full; what was finished is kept, free some space and run the same command again"
    return f"{where}{error.strerror or error}"


def _describe_unexpected(error: Exception) -> str:
    # torch has an exception of its own for a full GPU and only words for full main memory. Training tells by itself
    # what of it to lower, once it has got as far as its first step.
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return "memory ran out; use fewer --jobs, shorter files, or a smaller network"
    first_line = str(error).partition("\n")[0]
    return f"unexpected {type(error).__name__}: {first_line}; --debug shows where"


def _fail(message: str, exit_code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    errors.print(f"[bold red]error:[/] {_escape(message)}", soft_wrap=True)
    sys.exit(exit_code)


def _escape(message: str) -> str:
    from rich.markup import escape

    return escape(message)
