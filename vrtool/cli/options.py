"""The options that several commands have, each with its one help text, and the refusal of those not read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from vrtool.errors import InputError

BETTER = "Better stems, mostly for more time"
"""The heading of the options that `vrtool.separation.combining.Refinement` is made of."""

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
"""What `vrtool.model.acceleration.pick_precision` takes, which is not imported for torch comes with it."""

BUILTIN = "builtin"
"""`vrtool.model.checkpoint.BUILTIN`."""

Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        "-m",
        help="A run of vrtool train, one of its checkpoints, or builtin: the weights that come with vrtool. Repeated: "
        "the mean of their masks.",
        show_default=BUILTIN,
    ),
]
Device = Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda, cuda:N or mps.")]
NetworkPrecision = Annotated[
    PrecisionName, typer.Option("--precision", help="auto is bfloat16 on CUDA GPUs that have it, else float32.")
]
SongJobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Songs at work at once; each takes memory of its own.")
]
Shifts = Annotated[
    int, typer.Option("--shifts", min=1, help="Mean over so many shifted divisions.", rich_help_panel=BETTER)
]
ChannelSwapAverage = Annotated[
    bool, typer.Option("--channel-swap-average", help="Mean with left and right exchanged.", rich_help_panel=BETTER)
]
Postprocess = Annotated[
    bool, typer.Option("--postprocess", help="Leave stretches without vocals as they are.", rich_help_panel=BETTER)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

REFINEMENT = ("shifts", "channel_swap_average", "postprocess")
"""The parameters of `Refinement`, as the commands call them."""


def given_options(context: typer.Context, parameters: Iterable[str]) -> list[str]:
    """Return which of a command's parameters stand on the command line, as a person writes them: --clip-mode, INPUT."""
    written = {parameter.name: parameter for parameter in context.command.params}
    given = []
    for name in parameters:
        source = context.get_parameter_source(name)
        # By its name: typer has click's enumeration from click or, since 0.26, of its own.
        if source is not None and source.name == "COMMANDLINE":
            parameter = written[name]
            given.append(
                parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or name.upper()
            )
    return given


def refuse_given(context: typer.Context, parameters: Iterable[str], reason: str) -> None:
    """Raise InputError, the options and then `reason`, if any of these stands on the command line: none is read."""
    if names := given_options(context, parameters):
        raise InputError(f"{', '.join(names)}: {reason}")
