"""How a model may be read: what `transfer.families.probe` finds out by running it."""

from dataclasses import dataclass
from typing import Any

from transfer.families.shortcuts import Shortcuts


@dataclass(frozen=True, slots=True)
class Traits:
    """What was found out.

    Attributes:
        backbone: name of the module that gives last hidden states; "" is the model itself.
        width: size of these states; not H in every model.
        shortcuts: what a forward pass may leave out.
        padded: padding behind a row leaves its answer as it is.
        cached: it can go on from a cache of keys and values as if it had read the whole line; of causal LMs alone.
        apart: rows of one pass leave one another as they are, bit for bit.
    """

    backbone: str
    width: int
    shortcuts: Shortcuts
    padded: bool
    cached: bool
    apart: bool = True

    @staticmethod
    def of(found: dict[str, Any]) -> "Traits":
        """From what `asdict` made of one.

        Raises:
            TypeError, KeyError: it is anything else.
        """
        read = Traits(**{**found, "shortcuts": Shortcuts(**found["shortcuts"])})
        wanted = {"backbone": str, "width": int, "padded": bool, "cached": bool, "apart": bool}
        if any(type(getattr(read, name)) is not kind for name, kind in wanted.items()):
            raise TypeError(f"{found} are no traits")
        return read
