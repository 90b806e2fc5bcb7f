"""Sets up the virtual environment that the scripts beside this file run in. Needs nothing but Python."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ENVIRONMENT = PROJECT / ".venv"
CONSTRAINTS = PROJECT / "recipes" / "constraints.txt"
MINIMUM_PYTHON = (3, 11)


def environment_python() -> Path:
    """Return the interpreter of the project's virtual environment, made or brought up to date if need be."""
    if sys.version_info < MINIMUM_PYTHON:
        sys.exit(f"vrtool needs Python 3.11 or newer, this is {sys.version.split()[0]}: {sys.executable}")
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = ENVIRONMENT / "installed-from"
    wanted = _fingerprint()
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"setting up {ENVIRONMENT} (a few minutes the first time: torch is large)", flush=True)
    try:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit("Python cannot make virtual environments here; on Debian and Ubuntu: apt install python3-venv")
    install: list[Path | str] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--constraint", CONSTRAINTS]
    # torch first and by version, so that an index or a folder of wheels configured for pip may offer a build of it.
    run([*install, _constraint("torch")])
    run([*install, "--editable", f"{PROJECT}[dev]"])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def run(command: Sequence[Path | str]) -> None:
    """Run a command and leave with its exit code if it fails."""
    code = subprocess.run([str(part) for part in command], cwd=PROJECT, check=False).returncode
    if code != 0:
        sys.exit(code)


def _constraint(package: str) -> str:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def _fingerprint() -> str:
    """Return what changes when the environment has to be made anew: the packages asked for, or the interpreter."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (CONSTRAINTS, PROJECT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
