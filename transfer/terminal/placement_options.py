"""Options that say where a model is and in what numbers it computes; see `transfer.placement.settings`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from transfer.errors import UsageError
from transfer.placement.settings import HERE, Placement

Device = Annotated[
    str | None, typer.Option(help="Device of the target: auto, cpu, cuda, cuda:1 …", show_default="auto")
]
Dtype = Annotated[
    str | None, typer.Option(help="Its numbers: auto, float32, bfloat16 or float16.", show_default="auto")
]
Quantise = Annotated[
    str | None, typer.Option(help="Its weights: none, int8 or nf4, by bitsandbytes.", show_default="none")
]
MaxMemory = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DEVICE=SIZE", help="Memory for its weights on a device: 0=70GiB, cpu=100GiB; repeatable."
    ),
]
Offload = Annotated[Path | None, typer.Option(help="Directory for layers that fit into no memory.")]
Checkpointing = Annotated[
    bool | None,
    typer.Option(
        "--checkpointing/--no-checkpointing",
        help="Compute activations again instead of keeping them.",
        show_default="if layers are offloaded",
    ),
]


def placement(
    device: str | None,
    dtype: str | None,
    quantise: str | None,
    max_memory: list[str] | None,
    offload: Path | None,
    checkpointing: bool | None,
    default: Placement = HERE,
) -> Placement:
    """Return `default` with what the command line says instead.

    Raises:
        UsageError: names the option and the values it takes.
    """
    sizes = dict(each.partition("=")[::2] for each in max_memory) if max_memory else None
    said: dict[str, Any] = {"device": device, "dtype": dtype, "quantise": quantise, "max_memory": sizes}
    said |= {"offload": offload, "checkpointing": checkpointing}
    said = {name: value for name, value in said.items() if value is not None}
    try:
        return Placement.model_validate(default.model_dump() | said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).replace("_", "-") if first["loc"] else "offload"
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{option} {first['input']!r}: {reason[:1].lower()}{reason[1:]}") from None
