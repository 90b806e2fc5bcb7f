"""What a run tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vrtool.model import Network
from vrtool.training.stopwatch import Phase
from vrtool.training.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step of a run, for whoever watches: rates are means over the last steps, times in seconds."""

    step: int
    num_steps: int
    loss: float
    """The weighted sum of `loss_terms`, each of which stands there before it was weighted."""
    loss_terms: dict[str, float]
    learning_rate: float
    gradient_norm: float
    examples_per_second: float
    time_shares: dict[Phase, float]
    """Of the time of a mean step, validations and checkpoints spread over all; they sum to 1."""
    seconds_left: float
    num_skipped_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Whom a run tells what happens, and whom it asks after every step whether to stop.

    `on_network` is lent the network that was judged, after each validation: it may be used, even in evaluation mode.
    """

    on_step: Callable[[StepReport], None] = lambda _: None
    on_validation: Callable[[int, ValidationResult], None] = lambda *_: None
    on_notice: Callable[[str], None] = lambda _: None
    """A sentence about what did not go as planned, or why the run ends early."""
    on_network: Callable[[int, Network], None] = lambda *_: None
    stop_asked: Callable[[], bool] = lambda: False
