"""The error tree: whatever goes wrong for a user is one of these, and says what to do about it.

A message names the file, what was expected, what was found and the remedy, in one or two sentences. The command line
prints it without a traceback and leaves with the error's exit code.
"""

from __future__ import annotations


class VrtoolError(Exception):
    """Everything vrtool raises on purpose; `exit_code` is what the command line leaves with."""

    exit_code: int = 1


class InputError(VrtoolError):
    """What the user asked for cannot be done as asked: a wrong path, an empty library, an impossible option."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe has an unknown key, a value of the wrong type or one out of range."""


class CacheError(InputError):
    """A cache is not one, is damaged, or was made with other settings."""


class CheckpointError(InputError):
    """A checkpoint is not one, is damaged, or does not fit."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: cut off, or with other bytes."""


class JobError(VrtoolError):
    """A job that was well asked for has failed, wholly or in part."""


class AudioError(JobError):
    """An audio file cannot be decoded, or a waveform cannot be encoded as asked."""


class SaidElsewhereError(VrtoolError):
    """The same has befallen another process of the run, which tells the person; `exit_code` is that one's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"another process of the run says why it ended, with exit code {exit_code}")
        self.exit_code = exit_code


class InterruptedRunError(JobError):
    """A run was interrupted by the user; the message says what was kept and how to go on."""
