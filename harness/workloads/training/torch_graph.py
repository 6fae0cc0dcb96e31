"""One step of training or evaluation, run once and written down as a flat list of tensor operations, then as a loop.

Keras's Python costs about a millisecond a step on torch, more than the arithmetic of a small network. So the step is
traced once, gradients and the optimizer's update included, down to torch's own operations. The list is simplified and
becomes a loop over batches in TorchScript, torch's own interpreter, so that no Python runs between the first batch and
the last. The operations write into the very tensors that Keras's variables hold.

What only a running step knows, such as a branch on a tensor, cannot be written down: `UntraceableError`.
"""

from __future__ import annotations

import linecache
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Optional
from unittest.mock import patch

import torch
from keras import ops
from keras.src.backend.torch import core as keras_core
from keras.src.backend.torch import nn as keras_nn
from keras.src.backend.torch import random as keras_random
from keras.src.backend.torch.optimizers import torch_adam
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # samples, labels → mean loss, hits

aten: Final = torch.ops.aten

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

_CONSTANT_NUMBERS: Final = 65_536  # elements of a value that is computed once and kept, at most
_FOREVER: Final = 1e9  # steps after which Adam's own corrections are 1


class UntraceableError(Exception):
    """A step that cannot be written down as a list of operations; the message says why."""


def loop(step: Step, state: Sequence[Tensor], x: Tensor, y: Tensor, batch: int, *, training: bool) -> Loop:
    """Return a loop over batches of `batch` samples that does what `step` does to each.

    `state` holds the tensors that the step may change, and must be unchanged when this returns: the caller sees to
    that, since tracing runs the step once, on the samples `x` and labels `y`.

    Raises:
        UntraceableError: where that cannot be done.
    """
    try:
        traced = _trace(step, state, x, y, batch)
        _simplify(traced)
        return Loop(traced, len(state), batch, training=training)
    except Exception as error:  # whatever Keras, an own function or torch's tracer and compiler raise
        raise refusal(error) from error


def refusal(error: Exception) -> Exception:
    """Return what an error means for a step that was to become a loop: that it cannot, or that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return error
    if "can't allocate memory" in str(error):  # on a CPU, torch raises a plain RuntimeError
        return MemoryError(str(error))
    if _is_unknown(error):
        return UntraceableError("Python code of the step depends on a value that the step computes")
    # Keras says first where it happened, then what did, in bold.
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines()]
    what = next((line for line in lines if line and not line.startswith("Exception encountered when calling")), "?")
    return UntraceableError(what if isinstance(error, UntraceableError) else f"{type(error).__name__}: {what}")


def _is_unknown(error: Exception) -> bool:
    """Whether the tracer says that it cannot know the value of a tensor."""
    return "value out of a tracing tensor" in str(error) or "_local_scalar_dense" in str(error)


# Writing a step down -------------------------------------------------------------------------------------------


def _trace(step: Step, state: Sequence[Tensor], x: Tensor, y: Tensor, batch: int) -> fx.GraphModule:
    """Return the operations of a step on (state, x, y, loss, hits), which adds to loss and hits."""

    def flat(state: list[Tensor], x: Tensor, y: Tensor, loss: Tensor, hits: Tensor) -> tuple[()]:
        step_loss, step_hits = step(x, y)
        with torch.no_grad():
            loss.add_(step_loss.detach().to(loss.dtype), alpha=batch)
            hits.add_(step_hits.detach().to(hits.dtype))
        return ()

    totals = [torch.zeros((), device=x.device) for _ in range(2)]
    with traceable(state):
        return make_fx(flat)(list(state), x, y, *totals)


@contextmanager
def traceable(state: Sequence[Tensor]) -> Iterator[None]:
    """Let what Keras does become operations alone, where it would look at a tensor's value or draw by itself."""

    watch = _Watch()

    def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
        try:
            return true_fn() if bool(pred) else false_fn()
        except RuntimeError as error:
            if not isinstance(pred, Tensor) or not _is_unknown(error):
                raise
        return _both(pred, true_fn, false_fn, state, watch)

    with ExitStack() as stack:
        stack.enter_context(patch.object(keras_core, "cond", cond))
        stack.enter_context(patch.object(keras_core, "convert_to_numpy", lambda value: value))
        stack.enter_context(patch.object(keras_nn, "one_hot", _one_hot))
        stack.enter_context(patch.object(torch_adam.Adam, "_parallel_update_step", _fused_adam))
        stack.enter_context(shared_draws())
        stack.enter_context(watch)
        yield


@contextmanager
def shared_draws() -> Iterator[None]:
    """Let all random numbers come from the device's own generator, where Keras would make a new one for each draw."""
    with patch.object(keras_random, "torch_seed_generator", lambda seed: None):
        yield


_CHANGING: Final = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__ipow__"}


class _Watch(TorchFunctionMode):  # type: ignore[misc]  # its types are not read
    """Watches the functions that a step calls: refuses some, and takes the ``_foreach_`` ones apart.

    On a CPU these do for each tensor what the function for one does; and where Keras multiplies by a rate that is a
    tensor, they would read its value first. What is taken out of torch as numbers would stay what it was at tracing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.branches: list[tuple[Sequence[Tensor], dict[int, Any]]] = []  # what each may change, what it made

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("numpy", "tolist", "__array__"):
            raise UntraceableError(f"Python code takes a tensor's values out of torch, by {name}()")
        if self.branches:
            self._check(name, args, kwargs)
        result = self._apart(name, args, kwargs) if name.startswith("_foreach_") else func(*args, **kwargs)
        for _, made in self.branches:
            made.update((id(value), value) for value in (result if isinstance(result, list | tuple) else [result]))
        return result

    def _apart(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "_foreach_add_" and isinstance(kwargs.get("alpha"), Tensor):
            args, kwargs = (args[0], self._apart("_foreach_mul", (args[1], kwargs["alpha"]), {})), {}
        if all(tensor.device.type == "cpu" for tensor in args[0]):
            return _one_by_one(name, args, kwargs)
        result = getattr(torch, name)(*args, **kwargs)
        if name.endswith("_"):
            torch.autograd.graph.increment_version(args[0])  # which it may not do itself
        return result

    def _check(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse that a branch changes what was there before it, other than the state: both branches are taken."""
        in_place = name in _CHANGING or (name.endswith("_") and not name.endswith("__"))
        changed = [*(args[:1] if in_place else ()), kwargs.get("out")]
        for tensor in (one for item in changed for one in (item if isinstance(item, list | tuple) else [item])):
            state, made = self.branches[-1]
            known = tensor is None or id(tensor) in made or any(tensor is one for one in state)
            if not known:
                raise UntraceableError("a branch on a tensor changes another one that is none of Keras's variables")


def _one_hot(x: Tensor, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Tensor:
    """Do what Keras's function does without looking at the labels."""
    if axis not in (-1, x.dim()) or sparse:
        raise UntraceableError("one_hot along another axis than the last one")
    labels = torch.arange(num_classes, device=x.device)
    return (x.unsqueeze(-1) == labels).to(keras_core.to_torch_dtype(dtype or "int64"))


def _one_by_one(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    single = getattr(Tensor, name.removeprefix("_foreach_"), None)
    if single is None:  # such as maximum_
        whole = getattr(Tensor, name.removeprefix("_foreach_").removesuffix("_"))
        single = lambda tensor, *others, **named: tensor.copy_(whole(tensor, *others, **named))  # noqa: E731
    size = len(args[0])
    columns = [list(arg) if isinstance(arg, list | tuple) else [arg] * size for arg in args]
    return [single(*row, **kwargs) for row in zip(*columns, strict=True)]


@torch.no_grad()  # type: ignore[untyped-decorator]
def _fused_adam(self: Any, grads: list[Tensor], variables: list[Any], learning_rate: Any) -> None:
    """Do Keras's update of Adam in torch's one kernel for it.

    Keras corrects the two averages by the learning rate alone, torch by the number of the step: told that infinitely
    many steps were taken, torch corrects nothing, and its formula is Keras's with the corrected rate.
    """
    parameters = [variable.value for variable in variables]
    places = [self._get_variable_index(variable) for variable in variables]

    def held(slots: Any) -> list[Tensor]:
        return [slots[place].value for place in places]

    dtype = parameters[0].dtype
    step = ops.cast(self.iterations + 1, dtype)
    first = 1 - ops.power(ops.cast(self.beta_1, dtype), step)
    second = 1 - ops.power(ops.cast(self.beta_2, dtype), step)
    rate = ops.cast(learning_rate, dtype) * ops.sqrt(second) / first
    many = torch.tensor(_FOREVER, device=step.device)
    torch._fused_adam_(
        parameters,
        list(grads),
        held(self._momentums),
        held(self._velocities),
        held(self._velocity_hats) if self.amsgrad else [],
        [many] * len(parameters),
        lr=rate,
        beta1=self.beta_1,
        beta2=self.beta_2,
        weight_decay=0.0,
        eps=self.epsilon,
        amsgrad=bool(self.amsgrad),
        maximize=False,
    )
    torch.autograd.graph.increment_version([*parameters, *held(self._momentums), *held(self._velocities)])
    if self.amsgrad:
        torch.autograd.graph.increment_version(held(self._velocity_hats))


def _both(
    pred: Tensor, true_fn: Callable[[], Any], false_fn: Callable[[], Any], state: Sequence[Tensor], watch: _Watch
) -> Any:
    """Take both branches, each from the state as it was, and keep what the predicate says of either."""
    with torch.no_grad():
        before = [tensor.clone() for tensor in state]
    results, changed = [], []
    for branch in (true_fn, false_fn):
        versions = [tensor._version for tensor in state]
        watch.branches.append((state, {}))
        results.append(branch())
        watch.branches.pop()
        after = {}
        with torch.no_grad():
            for place, (tensor, version) in enumerate(zip(state, versions, strict=True)):
                if tensor._version != version:
                    after[place] = tensor.clone()
                    tensor.copy_(before[place])
        changed.append(after)
    with torch.no_grad():
        for place in sorted({*changed[0], *changed[1]}):
            ours, theirs = (after.get(place, before[place]) for after in changed)
            state[place].copy_(torch.where(pred, ours, theirs))
    return _chosen(pred, *results)


def _chosen(pred: Tensor, yes: Any, no: Any) -> Any:
    if isinstance(yes, list | tuple) and isinstance(no, list | tuple) and len(yes) == len(no):
        return type(yes)(_chosen(pred, *pair) for pair in zip(yes, no, strict=True))
    if isinstance(yes, Tensor) or isinstance(no, Tensor):
        return torch.where(pred, yes, no)
    if yes is no or yes == no:
        return yes
    raise UntraceableError(f"a branch on a tensor returns {yes!r} or {no!r}, which are no tensors")


# Simplifying ---------------------------------------------------------------------------------------------------

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


def _simplify(module: fx.GraphModule) -> None:
    graph = module.graph
    written = {_owner(target) for node in _calls(graph) for target in _writes(node)}
    for node in _calls(graph):
        needless = node.target is aten.clone.default and written.isdisjoint([node, _owner(node.args[0])])
        if node.target in _SAME or (needless and node.meta["val"].stride() == node.args[0].meta["val"].stride()):
            node.replace_all_uses_with(node.args[0])
    _compute_constants(module)
    _drop_choices(module)
    graph.eliminate_dead_code()
    _fuse(graph)
    graph.eliminate_dead_code()
    _work_in_place(graph)
    graph.eliminate_dead_code()


def _calls(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_function"]


def _writes(node: fx.Node) -> list[fx.Node]:
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


def _is_view(node: fx.Node) -> bool:
    """Whether what an operation returns shares its first operand's memory."""
    if node.target in (operator.getitem, aten._unsafe_view.default):
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(returned.alias_info is not None for returned in schema.returns)


def _owner(node: fx.Node) -> fx.Node:
    """Return the node whose memory a node's value lies in."""
    while node.op == "call_function" and _is_view(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _value(node: Any) -> Tensor | None:
    """Return a tensor of the shape and type of a node's value, None for what is no single tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value if isinstance(value, Tensor) else None


def _alike(node: Any, other: Any) -> bool:
    one, two = _value(node), _value(other)
    return one is not None and two is not None and one.shape == two.shape and one.dtype == two.dtype


def _compute_constants(module: fx.GraphModule) -> None:
    """Compute once what depends on nothing that changes from step to step."""
    graph = module.graph
    written = {_owner(target) for node in _calls(graph) for target in _writes(node)}
    values: dict[fx.Node, Tensor] = {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            if node in written:
                raise UntraceableError("the step changes a tensor that is none of Keras's variables")
            values[node] = getattr(module, str(node.target))
        elif node.op == "call_function" and _owner(node) not in written:
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
    for node in _calls(module.graph):
        pick = node.args[0] if node.target is aten.where.self else None
        if isinstance(pick, fx.Node) and pick.op == "get_attr":
            picks: Tensor = getattr(module, str(pick.target))
            always, never = bool(picks.all()), not bool(picks.any())
            kept = node.args[1] if always else node.args[2]
            if (always or never) and _alike(kept, node):
                node.replace_all_uses_with(kept)


def _constant(node: fx.Node, values: dict[fx.Node, Tensor]) -> Tensor | None:
    """Return what a node always computes, None where that depends on the step."""
    like = _value(node)
    if like is None or like.numel() > _CONSTANT_NUMBERS or _writes(node) or not _is_pure(node):
        return None
    if node.target is operator.getitem:
        return None
    if node.target in _OF_SHAPE:
        operand = _value(node.args[0])
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
    for node in _calls(graph):
        if node.target is aten.add.Tensor and not node.kwargs:
            _fuse_bias(graph, node, written)
        elif node.target is aten.copy_.default:
            _fuse_assignment(graph, node, written)
    for node in _calls(graph):
        if node.target is aten.add_.Tensor:
            _fuse_update(graph, node, written)
    for node in _calls(graph):
        if node.target is aten.addcmul_.default and node.kwargs.get("value", 1) == 1:
            _fuse_product(graph, node, written)


class _Written:
    """Where each memory is written, in the order of the operations."""

    def __init__(self, graph: fx.Graph) -> None:
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self._writes = [(self._place[node], _owner(target)) for node in _calls(graph) for target in _writes(node)]

    def movable(self, node: fx.Node, later: fx.Node) -> bool:
        """Whether `node` could be computed where `later` is, its one user."""
        if list(node.users) != [later]:
            return False
        owners = {_owner(operand) for operand in node.all_input_nodes}
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
        and (shape := _value(bias)) is not None
        and (whole := _value(node)) is not None
        and shape.dim() == 1
        and shape.shape[0] == whole.shape[-1]
        and shape.dtype == whole.dtype
        and whole.dtype in (torch.float32, torch.float64)  # shorter ones are rounded between the two
        and _alike(product, node)
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
        and _alike(target, value)
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
        and _alike(target, term)
        and all((value := _value(arg)) is not None and value.dtype == _value(term).dtype for arg in term.args)  # type: ignore[union-attr]
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
        and (value := _value(number)) is not None
        and value.dim() == 0
        and value.device.type == "cpu"
        and value.dtype == torch.float32
        and _alike(target, product)
        and written.movable(product, node)
    ):
        _swap(graph, node, aten.addmm_.default, (target, *product.args), {"alpha": number}, written)


def _work_in_place(graph: fx.Graph) -> None:
    """Let an operation write over its first operand where that is a value which nothing else needs."""
    for node in _calls(graph):
        writing = _IN_PLACE.get(node.target)
        operand = node.args[0] if node.args else None
        if (
            writing is not None
            and isinstance(operand, fx.Node)
            and operand.op == "call_function"
            and list(operand.users) == [node]
            and sum(other is operand for other in node.args) == 1
            and not _is_view(operand)
            and _alike(operand, node)
            and operand.meta["val"].stride() == node.meta["val"].stride()
        ):
            node.target = writing


# The loop ------------------------------------------------------------------------------------------------------


class Loop:
    """A step's operations as TorchScript, repeated for batch after batch; called with inference mode on."""

    def __init__(self, module: fx.GraphModule, states: int, batch: int, *, training: bool) -> None:
        self.operations = len(_calls(module.graph))
        self._constants: list[Tensor] = []
        self._lists = 0
        self.source = self._written(module, states, batch, training=training)
        name = f"<harness loop {id(self)}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(keepends=True), name)
        space = {"__name__": __name__, "torch": torch, "List": list, "Optional": Optional, "Tensor": Tensor}
        try:
            exec(compile(self.source, name, "exec"), space)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # what is to replace TorchScript needs a C++ compiler
                self._call = torch.jit.script(space["loop"])
        finally:
            del linecache.cache[name]

    def __call__(
        self,
        state: list[Tensor],
        x: Tensor,
        y: Tensor,
        order: Tensor,
        offset: int,
        count: int,
        loss: Tensor,
        hits: Tensor,
    ) -> None:
        """Do `count` batches from sample `offset` on, changing `state`, `loss` and `hits`.

        TorchScript's optimisations are off: they would change the operations, and so the bits, from call to call.
        """
        with torch.jit.optimized_execution(False):
            self._call(state, self._constants, [[] for _ in range(self._lists)], x, y, order, offset, count, loss, hits)

    def _written(self, module: fx.GraphModule, states: int, batch: int, *, training: bool) -> str:
        """Return the loop's source; sets its constants."""
        given = [node for node in module.graph.nodes if node.op == "placeholder"]
        names = {node: f"v{place}" for place, node in enumerate(module.graph.nodes)}
        head = [f"{names[node]} = state[{place}]" for place, node in enumerate(given[:states]) if node.users]
        body = []
        x, y, loss, hits = (names[node] for node in given[states:])
        if training:
            body += [f"rows = order.narrow(0, offset, {batch})"]
            body += [f"{x} = x.index_select(0, rows)", f"{y} = y.index_select(0, rows)"]
        else:
            body += [f"{x} = x.narrow(0, offset, {batch})", f"{y} = y.narrow(0, offset, {batch})"]
        head += [f"{loss} = loss", f"{hits} = hits"]
        steady = _steady(module.graph, given[:states])
        for node in module.graph.nodes:
            if node.op == "get_attr":
                head.append(f"{names[node]} = constants[{len(self._constants)}]")
                self._constants.append(getattr(module, str(node.target)).detach())
            elif node.op == "call_function":
                lines = _lines(node, names, self._lists)
                (head if node in steady else body).extend(lines)
                self._lists += len(lines) - 1
        body.append(f"offset += {batch}")
        return "\n".join(
            [
                "def loop(state: List[Tensor], constants: List[Tensor], lists: List[List[Tensor]], x: Tensor,",
                "         y: Tensor, order: Tensor, offset: int, count: int, loss: Tensor, hits: Tensor) -> None:",
                *(f"    {line}" for line in head),
                "    for _ in range(count):",
                *(f"        {line}" for line in body),
                "",
            ]
        )


def _steady(graph: fx.Graph, state: list[fx.Node]) -> set[fx.Node]:
    """Return what need not be computed anew for each batch: values of what no step changes, and views of the state."""
    written = {_owner(target) for node in _calls(graph) for target in _writes(node)}
    kept: set[fx.Node] = {*state, *(node for node in graph.nodes if node.op == "get_attr")}
    for node in _calls(graph):
        operands = node.all_input_nodes
        still = _is_view(node) or written.isdisjoint([node, *map(_owner, operands)])
        if operands and still and kept.issuperset(operands) and not _writes(node) and _is_pure(node):
            kept.add(node)
    return kept


def _is_pure(node: fx.Node) -> bool:
    """Whether an operation always computes the same from the same."""
    target = node.target
    if target is operator.getitem:
        return True
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded not in target.tags


def _lines(node: fx.Node, names: dict[fx.Node, str], lists: int) -> list[str]:
    """Return an operation as TorchScript, `lists` being how many lists it may not choose for those it writes into.

    TorchScript takes an operation that writes into a list made on the spot for one without effect, and drops it;
    such a list is laid into one that the caller gave.
    """
    if node.target is operator.getitem:
        return [f"{names[node]} = {names[node.args[0]]}[{node.args[1]}]"]
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        raise UntraceableError(f"the step calls {target}, which is none of torch's operations")
    lines, arguments = [], []
    for place, argument in enumerate(target._schema.arguments):
        if place >= len(node.args) and argument.name not in node.kwargs:
            continue
        value = node.args[place] if place < len(node.args) else node.kwargs[argument.name]
        text = _text(value, str(argument.type), names)
        if (
            isinstance(value, list | tuple)
            and value
            and argument.alias_info is not None
            and argument.alias_info.is_write
        ):
            lines.append(f"lists[{lists}] = {text}")
            text = f"lists[{lists}]"
            lists += 1
        arguments.append(text if place < len(node.args) else f"{argument.name}={text}")
    library, operation = target._schema.name.split("::")
    call = f"torch.ops.{library}.{operation}({', '.join(arguments)})"
    return [*lines, f"{names[node]} = {call}" if node.users else call]


def _text(value: Any, kind: str, names: dict[fx.Node, str]) -> str:
    """Return an argument of this kind, as torch writes types, in TorchScript."""
    if isinstance(value, fx.Node):
        return f"float({names[value]})" if kind in ("number", "float", "Optional[number]") else names[value]
    if isinstance(value, list | tuple):
        items = f"[{', '.join(_text(item, '', names) for item in value)}]"
        return f"torch.jit.annotate(List[Optional[Tensor]], {items})" if kind == "List[Optional[Tensor]]" else items
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, torch.device):
        return f"torch.device('{value}')"
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.layout | torch.memory_format):
        return repr(value)
    raise UntraceableError(f"the step has an argument of type {type(value).__name__}, which cannot be written down")
