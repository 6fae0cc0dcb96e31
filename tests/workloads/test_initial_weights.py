"""The initial weights: Keras's distributions, NumPy's draws, the seed's alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from harness.workloads.training import initial

INITIALIZERS: dict[str, Any] = {
    "glorot_uniform": keras.initializers.GlorotUniform(seed=1),
    "glorot_normal": keras.initializers.GlorotNormal(seed=1),
    "he_uniform": keras.initializers.HeUniform(seed=1),
    "lecun_normal": keras.initializers.LecunNormal(seed=1),
    "scaled": keras.initializers.VarianceScaling(scale=3.0, mode="fan_out", distribution="untruncated_normal", seed=1),
    "uniform": keras.initializers.RandomUniform(-0.2, 0.6, seed=1),
    "normal": keras.initializers.RandomNormal(mean=0.5, stddev=0.1, seed=1),
    "truncated": keras.initializers.TruncatedNormal(mean=0.5, stddev=0.1, seed=1),
    "orthogonal": keras.initializers.Orthogonal(gain=2.0, seed=1),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_draws_have_the_distribution_of_keras(name: str) -> None:
    shape = (3, 3, 40, 50)
    ours = initial._draw(INITIALIZERS[name], shape, np.random.default_rng(0))
    keras_own = np.asarray(INITIALIZERS[name](shape))
    assert (ours.shape, ours.dtype) == (shape, np.float32)
    deviation = keras_own.std()
    assert abs(ours.mean() - keras_own.mean()) < 0.05 * deviation
    assert ours.std() == pytest.approx(deviation, rel=0.02)
    for level in (0.01, 0.25, 0.75, 0.99):
        assert abs(np.quantile(ours, level) - np.quantile(keras_own, level)) < 0.15 * deviation


def test_orthogonal_weights_are_orthogonal() -> None:
    for shape in ((20, 6), (6, 20)):
        weights = initial._draw(INITIALIZERS["orthogonal"], shape, np.random.default_rng(0))
        small = weights.T @ weights if shape[0] > shape[1] else weights @ weights.T
        np.testing.assert_allclose(small, 4 * np.eye(6), atol=1e-5)


def weights(build: Any, *seeds: int) -> list[list[np.ndarray]]:
    """Return the weights of one model after initialising it for each of the seeds in turn."""
    with initial.captured() as recipes_of:
        model = build()
    recipes = recipes_of(model)
    found = []
    for seed in seeds:
        recipes.initialise(seed)
        found.append([np.array(variable.numpy()) for variable in model.variables])
    return found


def a_model(**named: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, **named),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ]
    )


def test_the_same_seed_gives_the_same_weights_whatever_came_between() -> None:
    first, other, again = weights(a_model, 7, 8, 7)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[-1], other[-1])  # the seed of the dropout
    (elsewhere,) = weights(a_model, 7)
    assert all(np.array_equal(a, b) for a, b in zip(first, elsewhere, strict=True))


def test_layers_of_one_shape_start_differently() -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), keras.layers.Dense(5)])

    ((one, _, two, _),) = weights(build, 0)
    assert not np.array_equal(one, two)


def test_constants_are_what_keras_makes_them() -> None:
    ((kernel, bias, gamma, beta, mean, variance, _),) = weights(
        lambda: a_model(kernel_initializer=keras.initializers.Constant(0.25), bias_initializer="ones"), 3
    )
    assert (kernel == 0.25).all()
    assert (bias == 1).all()
    assert (gamma == 1).all() and (beta == 0).all() and (mean == 0).all() and (variance == 1).all()  # noqa: PT018


def test_an_initializer_with_a_seed_of_its_own_keeps_it() -> None:
    one, two = weights(lambda: a_model(kernel_initializer=keras.initializers.GlorotUniform(seed=5)), 0, 1)
    assert np.array_equal(one[0], two[0])


def test_weights_that_a_model_sets_itself_stay() -> None:
    def build() -> keras.Model:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        model.set_weights([np.eye(2), np.zeros(2)])
        return model

    ((kernel, _),) = weights(build, 0)
    assert np.array_equal(kernel, np.eye(2))


class Ramp(keras.initializers.Initializer):
    """An initialiser that only its author knows, drawing random numbers in Keras's way."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.random.uniform(shape, dtype=dtype)


def test_an_unknown_initializer_is_called_with_a_seed() -> None:
    first, other, again = weights(lambda: a_model(kernel_initializer=Ramp()), 1, 2, 1)
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
