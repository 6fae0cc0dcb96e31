"""What is asked of a graph's nodes: what an operation writes, whose memory its value lies in, what shape that has."""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch import Tensor, fx

aten: Final = torch.ops.aten


class UntraceableError(Exception):
    """A step that cannot be written down as a list of operations; the message says why."""


def calls(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_function"]


def writes(node: fx.Node) -> list[fx.Node]:
    """Return the operands that an operation writes into."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    written: list[fx.Node] = []
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.kwargs.get(argument.name, node.args[place] if place < len(node.args) else None)
            fx.node.map_arg(value, written.append)
    return written


def is_view(node: fx.Node) -> bool:
    """Whether what an operation returns shares its first operand's memory."""
    if node.target in (operator.getitem, aten._unsafe_view.default):
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(returned.alias_info is not None for returned in schema.returns)


def owner_of(node: fx.Node) -> fx.Node:
    """Return the node whose memory a node's value lies in."""
    while node.op == "call_function" and is_view(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def value_of(node: Any) -> Tensor | None:
    """Return a tensor of the shape and type of a node's value, None for what is no single tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value if isinstance(value, Tensor) else None


def alike(node: Any, other: Any) -> bool:
    one, two = value_of(node), value_of(other)
    return one is not None and two is not None and one.shape == two.shape and one.dtype == two.dtype


def is_pure(node: fx.Node) -> bool:
    """Whether an operation always computes the same from the same."""
    target = node.target
    if target is operator.getitem:
        return True
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded not in target.tags
