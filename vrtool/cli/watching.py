"""What `vrtool train` shows of a run beside its display: the report at the end, and TensorBoard if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from vrtool.cli.console import errors
from vrtool.errors import JobError

if TYPE_CHECKING:
    from vrtool.dataset.cache import Cache
    from vrtool.training.run_folder import RunFolder
    from vrtool.watching.tensorboard import TensorBoardLog


@contextmanager
def report_at_the_end(folder: RunFolder, device: str) -> Iterator[None]:
    """Write the run's report when the block has ended, well or with a JobError, of which an interruption is one."""
    try:
        yield
    except JobError:
        _try_to_write_report(folder, device)
        raise
    _try_to_write_report(folder, device)


def _try_to_write_report(folder: RunFolder, device: str) -> None:
    """Write the report, or say why there is none: weights of days are not to be lost sight of for a picture."""
    from vrtool.watching.report import write_report

    errors.print(f"writing {folder.report}; Ctrl-C to go without it", soft_wrap=True, markup=False)
    try:
        write_report(folder, device=device, output=folder.report)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        errors.print(
            f"{folder.report} could not be written ({reason}); try again with vrtool report {folder.path}",
            soft_wrap=True,
            markup=False,
        )
    except KeyboardInterrupt:
        errors.print(f"not written; vrtool report {folder.path} does it later", soft_wrap=True, markup=False)


@contextmanager
def tensorboard_log(folder: RunFolder, cache: Cache, *, is_wanted: bool) -> Iterator[TensorBoardLog | None]:
    """Give the run's log for TensorBoard if it is wanted; raises InputError if TensorBoard is not installed then."""
    if not is_wanted:
        yield None
        return
    from vrtool.watching.tensorboard import TensorBoardLog, require_tensorboard

    require_tensorboard()
    with closing(TensorBoardLog(folder.tensorboard, cache)) as log:
        yield log
