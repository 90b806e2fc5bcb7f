"""From a cache to numbers about it."""

from vrtool.inspection.problems import find_problems
from vrtool.inspection.summary import DatasetSummary, PoolSummary, summarise
from vrtool.inspection.verification import verify_files

__all__ = ["DatasetSummary", "PoolSummary", "find_problems", "summarise", "verify_files"]
