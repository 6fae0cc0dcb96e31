"""Making a graph shorter: what is always the same is computed once, pairs of operations become one, or one in place."""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch import Tensor, fx

from harness.workloads.training.torch_graph.nodes import (
    UntraceableError,
    alike,
    aten,
    calls,
    is_pure,
    is_view,
    owner_of,
    value_of,
    writes,
)

_CONSTANT_NUMBERS: Final = 65_536  # elements of a value that is computed once and kept, at most

# What depends on the shape of its operand alone.
_OF_SHAPE: Final = {
    *(aten.ones_like.default, aten.zeros_like.default, aten.full_like.default),
    *(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default),
}
_SAME: Final = {aten.detach.default, aten.alias.default, aten.lift_fresh.default}
_IN_PLACE: Final = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.div.Tensor: aten.div_.Tensor,
    aten.neg.default: aten.neg_.default,
    aten.sqrt.default: aten.sqrt_.default,
}


def simplify(module: fx.GraphModule) -> None:
    graph = module.graph
    written = {owner_of(target) for node in calls(graph) for target in writes(node)}
    for node in calls(graph):
        needless = node.target is aten.clone.default and written.isdisjoint([node, owner_of(node.args[0])])
        if node.target in _SAME or (needless and node.meta["val"].stride() == node.args[0].meta["val"].stride()):
            node.replace_all_uses_with(node.args[0])
    _compute_constants(module)
    _drop_choices(module)
    graph.eliminate_dead_code()
    _fuse(graph)
    graph.eliminate_dead_code()
    _work_in_place(graph)
    graph.eliminate_dead_code()


def _compute_constants(module: fx.GraphModule) -> None:
    """Compute once what depends on nothing that changes from step to step."""
    graph = module.graph
    written = {owner_of(target) for node in calls(graph) for target in writes(node)}
    values: dict[fx.Node, Tensor] = {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            if node in written:
                raise UntraceableError("the step changes a tensor that is none of Keras's variables")
            values[node] = getattr(module, str(node.target))
        elif node.op == "call_function" and owner_of(node) not in written:
            value = _constant(node, values)
            if value is not None:
                values[node] = value
    for number, (node, value) in enumerate(values.items()):
        if node.op == "call_function" and any(user not in values for user in node.users):
            name = f"_computed{number}"
            module.register_buffer(name, value, persistent=False)
            with graph.inserting_before(node):
                kept = graph.get_attr(name)
            kept.meta = dict(node.meta)
            node.replace_all_uses_with(kept)


def _drop_choices(module: fx.GraphModule) -> None:
    """Take the one side of a choice that is always taken."""
    for node in calls(module.graph):
        pick = node.args[0] if node.target is aten.where.self else None
        if isinstance(pick, fx.Node) and pick.op == "get_attr":
            picks: Tensor = getattr(module, str(pick.target))
            always, never = bool(picks.all()), not bool(picks.any())
            kept = node.args[1] if always else node.args[2]
            if (always or never) and alike(kept, node):
                node.replace_all_uses_with(kept)


def _constant(node: fx.Node, values: dict[fx.Node, Tensor]) -> Tensor | None:
    """Return what a node always computes, None where that depends on the step."""
    like = value_of(node)
    if like is None or like.numel() > _CONSTANT_NUMBERS or writes(node) or not is_pure(node):
        return None
    if node.target is operator.getitem:
        return None
    if node.target in _OF_SHAPE:
        operand = value_of(node.args[0])
        if operand is None or not all(isinstance(arg, bool | int | float | list | tuple) for arg in node.args[1:]):
            return None
        stand_in = torch.empty(operand.shape, dtype=operand.dtype, device=operand.device)
        return node.target(stand_in, *node.args[1:], **node.kwargs)
    if not all(operand in values for operand in node.all_input_nodes):
        return None
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda operand: values[operand])
    return node.target(*args, **kwargs)


def _fuse(graph: fx.Graph) -> None:
    """Merge pairs of operations that torch has one kernel for, where nothing else needs the first one's result."""
    written = _Written(graph)
    for node in calls(graph):
        if node.target is aten.add.Tensor and not node.kwargs:
            _fuse_bias(graph, node, written)
        elif node.target is aten.copy_.default:
            _fuse_assignment(graph, node, written)
    for node in calls(graph):
        if node.target is aten.add_.Tensor:
            _fuse_update(graph, node, written)
    for node in calls(graph):
        if node.target is aten.addcmul_.default and node.kwargs.get("value", 1) == 1:
            _fuse_product(graph, node, written)


class _Written:
    """Where each memory is written, in the order of the operations."""

    def __init__(self, graph: fx.Graph) -> None:
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self._writes = [(self._place[node], owner_of(target)) for node in calls(graph) for target in writes(node)]

    def movable(self, node: fx.Node, later: fx.Node) -> bool:
        """Whether `node` could be computed where `later` is, its one user."""
        if list(node.users) != [later]:
            return False
        owners = {owner_of(operand) for operand in node.all_input_nodes}
        first, last = self._place[node], self._place[later]
        return not any(first < place < last and owner in owners for place, owner in self._writes)

    def replace(self, node: fx.Node, new: fx.Node) -> None:
        self._place[new] = self._place[node]
        new.meta = dict(node.meta)


def _swap(graph: fx.Graph, node: fx.Node, target: Any, args: Any, kwargs: Any, written: _Written) -> None:
    with graph.inserting_before(node):
        new = graph.call_function(target, args, kwargs)
    written.replace(node, new)
    node.replace_all_uses_with(new)
    operands = node.all_input_nodes
    graph.erase_node(node)
    for operand in operands:
        if not operand.users and operand.op == "call_function":
            graph.erase_node(operand)


def _fuse_bias(graph: fx.Graph, node: fx.Node, written: _Written) -> None:
    """Make a product and an added bias one operation."""
    product, bias = node.args[0], node.args[1]
    if (
        isinstance(product, fx.Node)
        and product.target is aten.mm.default
        and (shape := value_of(bias)) is not None
        and (whole := value_of(node)) is not None
        and shape.dim() == 1
        and shape.shape[0] == whole.shape[-1]
        and shape.dtype == whole.dtype
        and whole.dtype in (torch.float32, torch.float64)  # shorter ones are rounded between the two
        and alike(product, node)
        and written.movable(product, node)
    ):
        _swap(graph, node, aten.addmm.default, (bias, *product.args), {}, written)


def _fuse_assignment(graph: fx.Graph, node: fx.Node, written: _Written) -> None:
    """Make the assignment of a value that was computed from the old one a change in place."""
    target, value = node.args[0], node.args[1]
    if (
        isinstance(value, fx.Node)
        and value.target in _IN_PLACE
        and value.args[0] is target
        and alike(target, value)
        and len(node.args) == 2
        and written.movable(value, node)
    ):
        _swap(graph, node, _IN_PLACE[value.target], value.args, dict(value.kwargs), written)


def _fuse_update(graph: fx.Graph, node: fx.Node, written: _Written) -> None:
    """Make the adding of a product or a quotient one operation."""
    target, term = node.args[0], node.args[1]
    fused = {aten.mul.Tensor: aten.addcmul_.default, aten.div.Tensor: aten.addcdiv_.default}
    if (
        isinstance(term, fx.Node)
        and term.target in fused
        and alike(target, term)
        and all((value := value_of(arg)) is not None and value.dtype == value_of(term).dtype for arg in term.args)  # type: ignore[union-attr]
        and written.movable(term, node)
    ):
        value = {"value": node.kwargs["alpha"]} if "alpha" in node.kwargs else {}
        _swap(graph, node, fused[term.target], (target, *term.args), value, written)


def _fuse_product(graph: fx.Graph, node: fx.Node, written: _Written) -> None:
    """Make a matrix product, a number and the adding to a matrix one operation: plain gradient descent on a CPU."""
    target, product, number = node.args
    if (
        isinstance(product, fx.Node)
        and product.target is aten.mm.default
        and (value := value_of(number)) is not None
        and value.dim() == 0
        and value.device.type == "cpu"
        and value.dtype == torch.float32
        and alike(target, product)
        and written.movable(product, node)
    ):
        _swap(graph, node, aten.addmm_.default, (target, *product.args), {"alpha": number}, written)


def _work_in_place(graph: fx.Graph) -> None:
    """Let an operation write over its first operand where that is a value which nothing else needs."""
    for node in calls(graph):
        writing = _IN_PLACE.get(node.target)
        operand = node.args[0] if node.args else None
        if (
            writing is not None
            and isinstance(operand, fx.Node)
            and operand.op == "call_function"
            and list(operand.users) == [node]
            and sum(other is operand for other in node.args) == 1
            and not is_view(operand)
            and alike(operand, node)
            and operand.meta["val"].stride() == node.meta["val"].stride()
        ):
            node.target = writing
