"""Units of a network that can be removed: which values of its tensors belong to each of them."""

from __future__ import annotations

from dataclasses import dataclass

# A tensor by name, and the axis that runs over the units, once or several times.
Place = tuple[str, int]


@dataclass(frozen=True)
class Units:
    """Units of one layer, or of all that layers pass on to each other.

    Attributes:
        count: How many there are.
        places: Where their values are; a unit goes from all of them at once.
        groups: Neighbours in so many groups of one size, of which as many stay in each: heads.
        rescaled: Tensors whose values are scaled along, since the model divides by the root of a
            group's size.
    """

    count: int
    places: tuple[Place, ...]
    groups: int = 1
    rescaled: tuple[str, ...] = ()


def written(*layers: str) -> tuple[Place, ...]:
    """The outputs of Linears."""
    return tuple(
        place for layer in layers for place in ((f"{layer}.weight", 0), (f"{layer}.bias", 0))
    )


def read(*layers: str) -> tuple[Place, ...]:
    """The inputs of Linears."""
    return tuple((f"{layer}.weight", 1) for layer in layers)


# LayerNorm's weight and bias lie as a Linear's outputs do.
normed = written


def attention_units(name: str, d_model: int, heads: int) -> list[Units]:
    """What is compared, and what is passed on, within each head of an `Attention`."""
    queries, keys, values = (f"{name}.{part}_proj" for part in "qkv")
    compared = Units(
        d_model, written(queries, keys), heads, rescaled=(f"{queries}.weight", f"{queries}.bias")
    )
    passed = Units(d_model, (*written(values), *read(f"{name}.out_proj")), heads)
    return [compared, passed]


def feed_forward_units(name: str, width: int) -> Units:
    """What ``fc1`` and ``fc2`` of a layer have between them."""
    return Units(width, (*written(f"{name}.fc1"), *read(f"{name}.fc2")))
