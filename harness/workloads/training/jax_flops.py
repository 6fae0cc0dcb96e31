"""What a batch takes of floating-point operations, from XLA's own count of a program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


def step_flops(traced: Any, lowered: Any) -> float | None:
    """Return the operations of one batch; None where that cannot be told.

    XLA counts, before it compiles: afterwards a product may be a call into a library, which counts for nothing. Of a
    loop it counts the body once, as is wanted of the one over the batches. For loops within it, as those of recurrent
    layers, the matrix products of the further rounds are added.
    """
    with contextlib.suppress(Exception):  # an analysis that fails must not choose the engine: see `cannot_compile`
        counted = lowered.cost_analysis()
        if counted and "flops" in counted:
            return float(counted["flops"]) + _further_rounds(traced.jaxpr.jaxpr, 1, inner=False)
    return None


class _UncountableError(Exception):
    """What a loop computes, or how often it runs, is not known before the program runs."""


def _further_rounds(jaxpr: Any, rounds: int, *, inner: bool) -> float:
    """Return the operations of the matrix products in a function that runs so often, less those of its first run."""
    total = 0.0
    for equation in jaxpr.eqns:
        name, within = equation.primitive.name, rounds
        if name == "dot_general":
            left = equation.invars[0].aval.shape
            summed = np.prod([left[axis] for axis in equation.params["dimension_numbers"][0][0]])
            total += (rounds - 1) * 2.0 * float(summed) * equation.outvars[0].aval.size
        elif name == "conv_general_dilated" and rounds > 1:
            raise _UncountableError
        elif name == "scan":
            within = rounds * equation.params["length"]
        elif name == "while" and inner:
            within = 2 * rounds  # more than once: enough to see whether it holds products
        further = sum(_further_rounds(one, within, inner=inner or name == "while") for one in _functions(equation))
        if name == "while" and inner and further:
            raise _UncountableError
        total += further
    return total


def _functions(equation: Any) -> Iterator[Any]:
    """Yield the functions that an operation calls: bodies of loops, branches."""
    for value in equation.params.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            function = getattr(one, "jaxpr", one)
            if hasattr(function, "eqns"):
                yield function
