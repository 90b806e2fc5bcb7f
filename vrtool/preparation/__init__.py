"""From libraries of audio to a spectrogram cache."""

from vrtool.preparation.plan import Library, PreparationPlan, PreparationSettings, plan_preparation
from vrtool.preparation.run import PreparationReport, Progress, prepare

__all__ = [
    "Library",
    "PreparationPlan",
    "PreparationReport",
    "PreparationSettings",
    "Progress",
    "plan_preparation",
    "prepare",
]
