"""What `vrtool train` shows of a run on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrtool.cli.console import errors

if TYPE_CHECKING:
    from vrtool.training.validation import ValidationResult
    from vrtool.training.watcher import StepReport


class Display:
    """Where a run stands: a live line on a terminal; elsewhere a line now and then."""

    LINE_EVERY_STEPS = 100

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=errors, refresh_per_second=4, transient=True) if errors.is_terminal else None

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show_step(self, report: StepReport) -> None:
        """Show where the run stands and where its time goes."""
        line = (
            f"step {report.step:,}/{report.num_steps:,}  loss {report.loss:.6f}  rate {report.learning_rate:.2e}  "
            f"{report.examples_per_second:.1f} examples/s  {_duration(report.seconds_left)} left"
        )
        if report.num_skipped_steps:
            line += f"  {report.num_skipped_steps} skipped"
        line += "  time: " + " ".join(f"{phase} {share:.0%}" for phase, share in report.time_shares.items())
        if self._live is not None:
            self._live.update(line)
        elif report.step % self.LINE_EVERY_STEPS == 0 or report.step in (1, report.num_steps):
            errors.print(line, soft_wrap=True)

    def show_notice(self, sentence: str) -> None:
        """Say what did not go as planned."""
        errors.print(sentence, soft_wrap=True, markup=False)

    def show_validation(self, step: int, result: ValidationResult) -> None:
        """Say how well the network does."""
        errors.print(
            f"step {step:,}  validation loss {result.loss:.6f}  nSDR vocals {_decibels(result.vocals_nsdr_db)}  "
            f"instrumental {_decibels(result.instrumental_nsdr_db)}",
            soft_wrap=True,
        )


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} dB"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
