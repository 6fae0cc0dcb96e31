"""Writing a step down as a graph: torch's own operations, gradients and the update included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
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

from harness.workloads.training.torch_graph.nodes import UntraceableError

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # samples, labels → mean loss, hits

_FOREVER: Final = 1e9  # steps after which Adam's own corrections are 1


def trace(step: Step, state: Sequence[Tensor], x: Tensor, y: Tensor, batch: int) -> fx.GraphModule:
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
            if not isinstance(pred, Tensor) or not is_unknown(error):
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


def is_unknown(error: Exception) -> bool:
    """Whether the tracer says that it cannot know the value of a tensor."""
    return "value out of a tracing tensor" in str(error) or "_local_scalar_dense" in str(error)
