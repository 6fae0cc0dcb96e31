"""How many floating-point operations a step of a TensorFlow program takes, by the operations of its graph.

A product and the sum that it goes into are two. Matrix products and convolutions, of which nearly all of the work
consists, are counted by their shapes, the gradients of convolutions as the convolutions that they are; padding counts
as data. For the other operations TensorFlow has a register of how many they take, which leaves some out (relu, exp).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import numpy as np

try:
    from tensorflow.python.framework import ops, tensor_util
    from tensorflow.python.util import deprecation
except ImportError:  # not TensorFlow's public interface: a version without them trains, and nothing is counted
    ops = tensor_util = deprecation = None

Graph = Any  # a FuncGraph; TensorFlow ships no types

# Which tensors of a convolution, or of a gradient of one, are its kernel and its output: (from its inputs?, place).
_FORWARD: Final = ((True, 1), (False, 0))
_TO_INPUT: Final = ((True, 1), (True, 2))
_TO_KERNEL: Final = ((False, 0), (True, 2))
_CONVOLUTIONS: Final = {
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), _FORWARD),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2", "DepthwiseConv2dNativeBackpropInput"), _TO_INPUT),
    **dict.fromkeys(
        ("Conv2DBackpropFilter", "Conv3DBackpropFilterV2", "DepthwiseConv2dNativeBackpropFilter"), _TO_KERNEL
    ),
}
# What a matrix product's first operand is turned by, and along which axis it then meets the second.
_PRODUCTS: Final = {
    "MatMul": "transpose_a",
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), "adj_x"),
}
_LOOPS: Final = ("While", "StatelessWhile")
_BRANCHES: Final = {
    **dict.fromkeys(("If", "StatelessIf"), ("then_branch", "else_branch")),
    **dict.fromkeys(("Case", "StatelessCase"), ("branches",)),
}
_CALLS: Final = ("PartitionedCall", "StatefulPartitionedCall")
_OPAQUE: Final = "Cudnn"  # whole recurrent layers in one operation


class _UnknownError(Exception):
    """A shape, or how often a loop runs, is known only when the program runs."""


def step_flops(graph: Graph) -> float | None:
    """Return the operations of one round of the loop that a program consists of; None where that cannot be told."""
    with suppress(Exception), deprecation.silence():  # whatever a graph of one's own holds: its trial runs without
        loop = next((op for op in graph.get_operations() if op.type in _LOOPS), None)
        return None if loop is None else float(_of_function(graph, loop.get_attr("body")))
    return None


def _of_function(graph: Graph, function: Any) -> int:
    try:
        inner = graph._get_function(function.name).graph
    except AttributeError as error:  # it is known by its definition alone
        raise _UnknownError from error
    return sum(_of_operation(inner, op) for op in _needed(inner))


def _needed(graph: Graph) -> list[Any]:
    """Return the operations that a function's results and effects depend on: the others never run.

    TensorFlow makes the gradient by the input with every convolution, also where nobody asks for it.
    """
    found: dict[str, Any] = {}
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found.values())


def _of_operation(graph: Graph, op: Any) -> int:
    kind = op.type
    if kind in _PRODUCTS:
        left = _shape(op.inputs[0])
        return 2 * _size(op.outputs[0]) * left[-2 if op.get_attr(_PRODUCTS[kind]) else -1]
    if kind in _CONVOLUTIONS:
        return _of_convolution(op)
    if kind == "Einsum":
        return _of_einsum(op)
    if kind in _LOOPS:
        once = _of_function(graph, op.get_attr("body"))
        return once * _rounds(op) if once else 0
    if kind in _BRANCHES:
        return max(_of_function(graph, function) for function in _functions(op, _BRANCHES[kind]))
    if kind in _CALLS:
        return _of_function(graph, op.get_attr("f"))
    if kind.startswith(_OPAQUE):
        raise _UnknownError
    return _registered(graph, op)


def _functions(op: Any, names: tuple[str, ...]) -> Iterator[Any]:
    for name in names:
        value = op.get_attr(name)
        yield from value if isinstance(value, list) else [value]


def _of_convolution(op: Any) -> int:
    """Each number of the output is a sum over the kernel's part for its channel."""
    kernel, output = (
        (op.inputs if from_inputs else op.outputs)[place] for from_inputs, place in _CONVOLUTIONS[op.type]
    )
    channels = _shape(output)[-1 if op.get_attr("data_format").endswith(b"C") else 1]
    return 2 * _size(output) * _size(kernel) // channels


def _of_einsum(op: Any) -> int:
    """A product for each combination of indices, added up unless none is summed over."""
    equation = op.get_attr("equation").decode()
    if "." in equation:
        raise _UnknownError
    terms = equation.partition("->")[0].split(",")
    sizes = {
        label: size
        for term, tensor in zip(terms, op.inputs, strict=True)
        for label, size in zip(term, _shape(tensor), strict=True)
    }
    combinations = 1
    for size in sizes.values():
        combinations *= size
    return 2 * combinations if len(terms) == 2 else combinations


def _rounds(loop: Any) -> int:
    """Return how often a loop runs: the most that it may, as a recurrent layer's; a gradient's, as often as its layer.

    The first two operands of a loop are its counter and that bound; a gradient's bound is the counter of its layer's.
    """
    bound = loop.inputs[1]
    if bound.op.type in _LOOPS:
        return _rounds(bound.op)
    lengths = bound.op.inputs[0] if bound.op.type == "Max" else bound  # Keras: the longest of the sequences
    rounds = tensor_util.constant_value(lengths)
    if rounds is None or np.max(rounds) < 0:
        raise _UnknownError
    return int(np.max(rounds))


def _registered(graph: Graph, op: Any) -> int:
    """Return what TensorFlow's register says of an operation, 0 where that says nothing or does not know the shape."""
    try:
        return int(ops.get_stats_for_node_def(graph, op.node_def, "flops").value or 0)
    except ValueError:
        return 0


def _size(tensor: Any) -> int:
    size = tensor.shape.num_elements()
    if size is None:
        raise _UnknownError
    return int(size)


def _shape(tensor: Any) -> list[int]:
    shape = tensor.shape
    if shape.rank is None or any(size is None for size in shape):
        raise _UnknownError
    return [int(size) for size in shape]
