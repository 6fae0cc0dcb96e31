"""A step's graph as a loop over batches in TorchScript, and what it means where that cannot be."""

from __future__ import annotations

import linecache
import math
import operator
import re
import warnings
from collections.abc import Sequence
from typing import Any, Final, Optional

import torch
from torch import Tensor, fx

from harness.workloads.training.torch_graph.nodes import UntraceableError, calls, is_pure, is_view, owner_of, writes
from harness.workloads.training.torch_graph.simplify import simplify
from harness.workloads.training.torch_graph.trace import Step, is_unknown, trace

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def loop(step: Step, state: Sequence[Tensor], x: Tensor, y: Tensor, batch: int, *, training: bool) -> Loop:
    """Return a loop over batches of `batch` samples that does what `step` does to each.

    `state` holds the tensors that the step may change, and must be unchanged when this returns: the caller sees to
    that, since tracing runs the step once, on the samples `x` and labels `y`.

    Raises:
        UntraceableError: where that cannot be done.
    """
    try:
        traced = trace(step, state, x, y, batch)
        simplify(traced)
        return Loop(traced, len(state), batch, training=training)
    except Exception as error:  # whatever Keras, an own function or torch's tracer and compiler raise
        raise refusal(error) from error


def refusal(error: Exception) -> Exception:
    """Return what an error means for a step that was to become a loop: that it cannot, or that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return error
    if "can't allocate memory" in str(error):  # on a CPU, torch raises a plain RuntimeError
        return MemoryError(str(error))
    if is_unknown(error):
        return UntraceableError("Python code of the step depends on a value that the step computes")
    # Keras says first where it happened, then what did, in bold.
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines()]
    what = next((line for line in lines if line and not line.startswith("Exception encountered when calling")), "?")
    return UntraceableError(what if isinstance(error, UntraceableError) else f"{type(error).__name__}: {what}")


class Loop:
    """A step's operations as TorchScript, repeated for batch after batch; called with inference mode on."""

    def __init__(self, module: fx.GraphModule, states: int, batch: int, *, training: bool) -> None:
        self.operations = len(calls(module.graph))
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
    written = {owner_of(target) for node in calls(graph) for target in writes(node)}
    kept: set[fx.Node] = {*state, *(node for node in graph.nodes if node.op == "get_attr")}
    for node in calls(graph):
        operands = node.all_input_nodes
        still = is_view(node) or written.isdisjoint([node, *map(owner_of, operands)])
        if operands and still and kept.issuperset(operands) and not writes(node) and is_pure(node):
            kept.add(node)
    return kept


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
