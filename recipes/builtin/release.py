"""Makes the weights that come with vrtool from a run: in float16, with their card, where the package looks for them.

python recipes/builtin/release.py RUN recipes/builtin/card.toml [--output vrtool/model/builtin.safetensors]
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

from vrtool.model.checkpoint import BUILTIN_FILE, find_checkpoint, load_checkpoint, save_checkpoint

MAX_BYTES = 25 * 1000 * 1000


def main() -> None:
    """Read the command line and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("card", type=Path)
    parser.add_argument("--output", type=Path, default=BUILTIN_FILE)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(find_checkpoint(arguments.run))
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in checkpoint.weights.items()
    }
    if overflown := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        sys.exit(f"{arguments.run}: float16 has no room for {', '.join(overflown)}")
    num_bytes = sum(tensor.nbytes for tensor in weights.values())
    if num_bytes > MAX_BYTES:
        sys.exit(f"{arguments.run}: its weights take {num_bytes} bytes, expected at most {MAX_BYTES}")
    card = tomllib.loads(arguments.card.read_text(encoding="utf-8"))
    save_checkpoint(arguments.output, replace(checkpoint, weights=weights, card=card))
    print(f"{arguments.output}: {num_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
