"""How a model may be read, as measured by `transfer.families.probe`."""

from dataclasses import dataclass
from typing import Any

from transfer.families.shortcuts import Shortcuts


@dataclass(frozen=True, slots=True)
class Traits:
    """Measured properties of a model.

    Attributes:
        backbone: name of the module that computes last hidden states; "" is the model itself.
        width: size of these states, which differs from H in some models.
        shortcuts: what a forward pass may leave out.
        padded: padding behind a row does not change its answer.
        cached: a causal LM can continue from a cache of keys and values as if it read the whole line.
        apart: rows of a pass do not change one another's gradients, bit for bit.
    """

    backbone: str
    width: int
    shortcuts: Shortcuts
    padded: bool
    cached: bool
    apart: bool = True

    @staticmethod
    def of(record: dict[str, Any]) -> "Traits":
        """Read what `asdict` returns for traits.

        Raises:
            TypeError, KeyError: `record` is anything else.
        """
        traits = Traits(**{**record, "shortcuts": Shortcuts(**record["shortcuts"])})
        kinds = {"backbone": str, "width": int, "padded": bool, "cached": bool, "apart": bool}
        if any(type(getattr(traits, name)) is not kind for name, kind in kinds.items()):
            raise TypeError(f"{record} are no traits")
        return traits
