"""Initial weights, drawn by NumPy from the seed: the same on every back end.

Each variable has a stream of its own, keyed by the trial's seed and the variable's place in the model. The
distributions are those of Keras's initialisers, not their bits:

    random_uniform, random_normal, truncated_normal   truncated: beyond two deviations is drawn again
    variance_scaling and its named forms              glorot: Glorot and Bengio, AISTATS 2010; he: He et al., ICCV 2015;
                                                      lecun: LeCun et al., "Efficient BackProp", 1998
    orthogonal                                        Saxe et al., ICLR 2014; QR with the signs of R's diagonal

An initialiser with a seed of its own keeps it. One that is not listed here is called itself, seeded; what a model
sets itself while it is built, such as weights it loads, stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

_WEIGHTS, _SHUFFLE, _DRAWS = 0, 1, 2  # streams of one seed, kept apart

_CONSTANT: Final = (
    keras.initializers.Zeros,
    keras.initializers.Ones,
    keras.initializers.Constant,
    keras.initializers.Identity,
    keras.initializers.STFT,
)
_RANDOM: Final = (
    keras.initializers.RandomUniform,
    keras.initializers.RandomNormal,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
    keras.initializers.Orthogonal,
)
# The standard deviation of a standard normal cut off at two: what a truncated draw is scaled by to have deviation 1.
_CUT_OFF_DEVIATION: Final = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


def generator(seed: int, stream: int, *place: int) -> np.random.Generator:
    """Return the random numbers of one purpose: independent of all others of the same seed."""
    return np.random.default_rng([seed % 2**64, stream, *place])


def shuffled(seed: int, epoch: int, samples: int) -> NDArray[np.int32]:
    """Return the order in which epoch `epoch` (from 1) sees the samples."""
    return generator(seed, _SHUFFLE, epoch).permutation(samples).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where a variable's initial value comes from: a value, or an initialiser to draw it with."""

    variable: Any
    value: Values | None
    initializer: Any = None

    def draw(self, seed: int, place: int) -> Values:
        """Return the initial value for a trial's seed."""
        if self.value is not None:
            return self.value
        shape, dtype = tuple(self.variable.shape), self.variable.dtype
        if _is_seed(self.variable):
            return np.array([generator(seed, _DRAWS, place).integers(2**32, dtype=np.uint32), 0], dtype=np.uint32)
        own_seed = getattr(self.initializer, "_init_seed", None)
        rng = generator(seed, _WEIGHTS, place) if own_seed is None else generator(own_seed, _WEIGHTS)
        if _is_keras(self.initializer, _RANDOM):
            return _draw(self.initializer, shape, rng).astype(dtype, copy=False)
        if own_seed is None:
            fixed = int(rng.integers(2**31))
            keras.utils.set_random_seed(fixed)
            if hasattr(self.initializer, "seed"):
                self.initializer.seed = fixed
        return np.asarray(keras.ops.convert_to_numpy(self.initializer(shape, dtype=dtype)))


class Recipes:
    """How to give a model its initial values again and again; made by building it inside `captured`."""

    def __init__(self, model: keras.Model, made: dict[int, tuple[Any, bool]]) -> None:
        self._recipes = [self._recipe(variable, made) for variable in model.variables]

    def initialise(self, seed: int) -> None:
        """Set every variable of the model to its initial value for this seed."""
        for place, recipe in enumerate(self._recipes):
            recipe.variable.assign(recipe.draw(seed, place))

    @staticmethod
    def _recipe(variable: Any, made: dict[int, tuple[Any, bool]]) -> Recipe:
        initializer, stood_in = made.get(id(variable), (None, False))
        if _is_seed(variable):
            return Recipe(variable, None)
        value = keras.ops.convert_to_numpy(variable.value)
        if initializer is None or _is_keras(initializer, _CONSTANT):
            return Recipe(variable, value)
        if stood_in and value.any():
            return Recipe(variable, value)  # the model has set it itself
        return Recipe(variable, None, initializer)


@contextmanager
def captured() -> Iterator[Callable[[keras.Model], Recipes]]:
    """Note the initialiser of every weight made in the block; yields what turns the model built into `Recipes`.

    Weights that NumPy will draw start as zeros, which spares building them twice.
    """
    made: dict[int, tuple[Any, bool]] = {}
    kept: list[Any] = []  # keeps the variables alive, and so their ids their own
    original = keras.layers.Layer.add_weight

    def add_weight(layer: Any, *args: Any, **kwargs: Any) -> Any:
        initializer = keras.initializers.get(kwargs.get("initializer") or (args[1] if len(args) > 1 else None))
        stands_in = "initializer" in kwargs and _is_keras(initializer, _RANDOM)
        if stands_in:
            kwargs["initializer"] = "zeros"
        variable = original(layer, *args, **kwargs)
        if initializer is None and "float" in variable.dtype:
            initializer = keras.initializers.GlorotUniform()  # Keras's default
        made[id(variable)] = (initializer, stands_in)
        kept.append(variable)
        return variable

    keras.layers.Layer.add_weight = add_weight
    try:
        yield lambda model: Recipes(model, made)
    finally:
        keras.layers.Layer.add_weight = original


def _is_seed(variable: Any) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`: a seed, and how often it was used."""
    return str(variable.path).endswith("seed_generator_state") and tuple(variable.shape) == (2,)


def _is_keras(initializer: Any, classes: tuple[type, ...]) -> bool:
    """Whether an initialiser is one of these as Keras has them, not somebody's subclass."""
    return isinstance(initializer, classes) and type(initializer).__module__.startswith("keras.")


def _draw(initializer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
    values: Values
    match initializer:
        case keras.initializers.RandomUniform():
            values = _uniform(rng, shape, initializer.minval, initializer.maxval)
        case keras.initializers.RandomNormal():
            values = initializer.mean + initializer.stddev * rng.standard_normal(shape, dtype=np.float32)
        case keras.initializers.TruncatedNormal():
            values = initializer.mean + initializer.stddev * _cut_off_normal(rng, shape)
        case keras.initializers.Orthogonal():
            values = _orthogonal(rng, shape, initializer.gain)
        case _:
            values = _variance_scaling(initializer, shape, rng)
    return values


def _variance_scaling(initializer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
    fan_in, fan_out = _fans(shape, initializer.input_axes, initializer.output_axes)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
    variance = initializer.scale / max(1.0, fan)
    if initializer.distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return _uniform(rng, shape, -limit, limit)
    if initializer.distribution == "untruncated_normal":
        return math.sqrt(variance) * rng.standard_normal(shape, dtype=np.float32)
    return (math.sqrt(variance) / _CUT_OFF_DEVIATION) * _cut_off_normal(rng, shape)


def _fans(
    shape: tuple[int, ...], input_axes: Sequence[int] | None, output_axes: Sequence[int] | None
) -> tuple[int, int]:
    """Return how many inputs and outputs a weight connects; convolution kernels end in (inputs, outputs)."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Values:
    return rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)


def _cut_off_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Return standard normal draws, those beyond two drawn again."""
    values = rng.standard_normal(shape, dtype=np.float32)
    flat = values.reshape(-1)
    beyond = np.flatnonzero(np.abs(flat) > 2)
    while beyond.size:
        flat[beyond] = rng.standard_normal(beyond.size, dtype=np.float32)
        beyond = beyond[np.abs(flat[beyond]) > 2]
    return flat.reshape(shape)


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...], gain: float) -> Values:
    if len(shape) < 2:
        raise ValueError(f"the orthogonal initializer needs a weight of two dimensions or more, got {shape}")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns)), dtype=np.float32))
    q = q * np.sign(np.diag(r))
    return gain * (q.T if rows < columns else q).reshape(shape)
