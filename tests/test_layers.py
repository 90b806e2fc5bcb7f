"""Reads the imports of every module and holds the order of the layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "vrtool"

# What each part may import besides itself; what stands lower may not import what stands higher, siblings may not
# import each other. None of them may import the package `vrtool` itself, whose names are made for users.
BASE = {"errors", "locking", "atomic", "processes"}
AUDIO = BASE | {"audio"}
MAY_IMPORT = {
    "errors": set[str](),
    "locking": set[str](),
    "atomic": {"errors", "locking"},
    "processes": set[str](),
    "audio": BASE,
    "drawing": AUDIO,
    "dataset": AUDIO,
    "model": AUDIO,
    **dict.fromkeys(("preparation", "inspection", "training"), AUDIO | {"dataset", "model"}),
    "separation": AUDIO | {"dataset", "model", "drawing"},
    # Evaluation stands on separation.
    "evaluation": AUDIO | {"dataset", "model", "separation"},
    # Watching a run takes listening to what it makes.
    "watching": AUDIO | {"dataset", "model", "training", "separation", "drawing"},
    # A recipe only assembles the classes of their owners, and asks the architecture which of its settings it reads.
    "recipe": {
        "errors",
        "audio.spectrogram",
        "dataset.augmentation",
        "model.config",
        "model.registry",
        "training.config",
    },
    "cli": AUDIO
    | {"dataset", "model", "preparation", "inspection", "training", "separation", "evaluation", "watching", "recipe"}
    | {"drawing"},
    "__init__": {"errors", "audio", "model", "separation"},
    "__main__": {"cli"},
}

# Each dependency has one home.
HOMES = {
    "matplotlib": {"drawing"},
    "distributed": {"preparation/cluster.py"},
    "h5py": {"dataset/track_file.py"},
    "numba": {"dataset/kernels.py", "dataset/rows.py"},
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "av": {"audio"},
    "rich": {"cli"},
    "typer": {"cli"},
    "safetensors": {"model"},
    "tomllib": {"recipe.py"},
}
NOT_NEEDED_FOR_HELP = ("torch", "numba", "h5py", "matplotlib", "numpy", "soundfile", "av", "soxr", "distributed")

MODULES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports anywhere in it, those for type checking only included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            # `from vrtool import errors` imports vrtool.errors.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """Return the part of vrtool that a file belongs to: its top folder, or its own name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_downward_only(path: Path) -> None:
    part = part_of(path)
    allowed = MAY_IMPORT[part] | {part}
    for name in imported(path):
        if name.split(".")[0] == "vrtool":
            below = name.removeprefix("vrtool").removeprefix(".")
            assert any(below == place or below.startswith(f"{place}.") for place in allowed), (
                f"{path.relative_to(ROOT)} imports {name}, but {part} may only import {', '.join(sorted(allowed))}"
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_dependency_has_one_home(path: Path) -> None:
    place = path.relative_to(ROOT)
    for name in imported(path):
        homes = HOMES.get(name.split(".")[0])
        if homes is not None:
            assert place.as_posix() in homes or place.parts[0] in homes, f"{place} imports {name}, at home in {homes}"


def test_only_the_command_line_prints_or_exits() -> None:
    for path in MODULES:
        if part_of(path) == "cli":
            continue
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        names = {ast.unparse(call) for call in calls}
        assert not names & {"print", "sys.exit", "exit", "quit"}, f"{path.relative_to(ROOT)} talks to the user"


def test_every_part_has_its_rule() -> None:
    assert {part_of(path) for path in MODULES} == set(MAY_IMPORT)


def test_the_rule_catches_an_upward_import(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def late():\n    from vrtool.cli import main\n    import vrtool.training.trainer as t\n")
    assert list(imported(path)) == ["vrtool.cli.main", "vrtool.training.trainer"]


@pytest.mark.parametrize("module", ["vrtool", "vrtool.cli"])
def test_the_command_line_answers_without_anything_heavy(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {NOT_NEEDED_FOR_HELP!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
