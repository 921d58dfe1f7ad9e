"""Options that say where a model is and in what numbers it computes; see `transfer.placement.settings`.

A command takes them all as one parameter, in whose place they stand in its help:

    @app.command()
    @placement_options.spelled_out()
    def distil(…, placed: Placed) -> None: …
"""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from transfer.errors import UsageError
from transfer.placement.settings import HERE, Placement

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Placed:
    """What a command line says of a placement; None leaves a key as it was."""

    device: Annotated[
        str | None, typer.Option(help="Device of the target: auto, cpu, cuda, cuda:1 …", show_default="auto")
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="Its numbers: auto, float32, bfloat16 or float16.", show_default="auto"),
    ] = None
    quantise: Annotated[
        str | None, typer.Option(help="Its weights: none, int8 or nf4, by bitsandbytes.", show_default="none")
    ] = None
    max_memory: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE=SIZE", help="Memory for its weights on a device: 0=70GiB, cpu=100GiB; repeatable."
        ),
    ] = None
    offload: Annotated[Path | None, typer.Option(help="Directory for layers that fit into no memory.")] = None
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing/--no-checkpointing",
            help="Compute activations again instead of keeping them.",
            show_default="if layers are offloaded",
        ),
    ] = None

    def over(self, default: Placement = HERE) -> Placement:
        """Return `default` with what the command line says instead.

        Raises:
            UsageError: names the option and the values it takes.
        """
        sizes = dict(each.partition("=")[::2] for each in self.max_memory) if self.max_memory else None
        said = {**asdict(self), "max_memory": sizes}
        said = {name: value for name, value in said.items() if value is not None}
        try:
            return Placement.model_validate(default.model_dump() | said)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            option = str(first["loc"][0]).replace("_", "-") if first["loc"] else "offload"
            reason = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"--{option} {first['input']!r}: {reason[:1].lower()}{reason[1:]}") from None


OPTIONS = inspect.signature(Placed).parameters
"""The options by name, each with its annotation."""


def spelled_out(*names: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Return a decorator that puts these options, or all, in the place of a command's parameter `placed`."""
    options = [OPTIONS[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in names or OPTIONS]

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(command)
        def called(**given: Any) -> Result:
            said = {option.name: given.pop(option.name, option.default) for option in options}
            return command(**given, placed=Placed(**said))

        shape = inspect.signature(command)
        spelled = chain.from_iterable(
            options if each.name == "placed" else [each] for each in shape.parameters.values()
        )
        called.__signature__ = shape.replace(parameters=list(spelled))  # type: ignore[attr-defined]
        return called

    return decorate
