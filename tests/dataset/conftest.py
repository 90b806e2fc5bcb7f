"""A folder that nobody may read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def closed_folder(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of folders that cannot be listed while the test runs."""
    list_folder = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # the rights themselves do not bind root, as which CI may run
    return "closed"
