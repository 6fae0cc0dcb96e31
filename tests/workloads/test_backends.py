"""Every back end under the same tests: against Keras's own loop, against itself, against TensorFlow.

Each runs once, in a process of its own (`backend_worker.py`), while other tests of this folder go on
(`conftest.py`); the tests judge what it measured. TensorFlow is held
against Keras in `test_training_engine.py`; here it gives the losses that the others must start with, and some checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Measured = dict[str, Any]


@pytest.fixture(scope="session", params=["jax", "torch"])
def backend(request: pytest.FixtureRequest, measure: Callable[[str], Measured]) -> Measured:
    """What a back end measured."""
    return measure(request.param)


def measured(backend: Measured, check: str) -> Any:
    found = backend[check]
    assert not (isinstance(found, dict) and "error" in found), found["error"]
    return found


def test_the_process_says_what_computes_and_by_how_many_threads(backend: Measured) -> None:
    found = measured(backend, "process")
    assert found["threads"] == 1
    assert found["name"] in found["versions"]


def test_training_agrees_with_fit(backend: Measured) -> None:
    found = measured(backend, "against_fit")
    assert {case for case, gaps in found.items() if gaps["engine"] == "fit"} == set()
    assert {case: gaps for case, gaps in found.items() if gaps["scores"] > 2e-5 or gaps["weights"] > 1e-5} == {}


def test_the_first_step_has_the_loss_that_it_has_on_tensorflow(
    backend: Measured, measure: Callable[[str], Measured]
) -> None:
    expected = measured(measure("tensorflow"), "first_steps")
    assert measured(backend, "first_steps") == pytest.approx(expected, abs=1e-5)


def test_chunks_of_an_epoch_have_the_bits_of_a_whole_one(backend: Measured) -> None:
    for case, found in measured(backend, "chunks").items():
        assert found == {"chunks": [3, 2], "same": True}, case  # the short batch is a call of its own


def test_single_steps_have_the_bits_of_whole_epochs(backend: Measured) -> None:
    assert measured(backend, "steps") == {"chunks": [4, 4], "same": True}


def test_a_reused_program_has_the_bits_of_a_fresh_one(backend: Measured) -> None:
    for case, found in measured(backend, "reuse").items():
        assert found == {"reused": True, "same": True}, case


def test_another_seed_starts_elsewhere(backend: Measured) -> None:
    one, other = measured(backend, "seeds")
    assert abs(one - other) > 0.01


def test_random_numbers_are_those_of_the_seed(backend: Measured) -> None:
    one, other, again = measured(backend, "draws")
    assert one == again
    assert abs(one - other) > 1e-3


def test_data_streamed_through_the_device_gives_the_scores_of_data_that_stays_there(backend: Measured) -> None:
    assert measured(backend, "streamed") < 1e-6


def test_every_engine_gives_the_results_of_the_first(backend: Measured) -> None:
    for engine, found in measured(backend, "engines").items():
        assert found["ran"] == engine
        assert max(found["scores"], found["weights"]) < 1e-5, engine


def test_mixed_precisions_learn_about_what_float32_learns(backend: Measured) -> None:
    found = measured(backend, "precisions")
    for precision in ("mixed_bfloat16", "mixed_float16"):
        assert found[precision] != found["float32"]
        assert found[precision] == pytest.approx(found["float32"], rel=0.02), precision


# Operations by hand, two for a product and its sum, batches of 64: forward, gradients of the weights, and gradients of
# the layers' inputs but for the first one's.
_FIRST, _SECOND, _LAST = (2 * 64 * products for products in (14 * 14 * 27 * 8, 6 * 6 * 72 * 16, 576 * 10))
BY_HAND = {
    "mlp": 2 * 64 * (784 * 32 + 32 * 10) * 2 + 2 * 64 * 32 * 10,
    "convolution": 2 * _FIRST + 3 * _SECOND + 3 * _LAST,
    "padded": 2 * 64 * (16 * 16 * 27 * 8 * 2 + 2048 * 10 * 3),
    "recurrent": 2 * 64 * (20 * 64 * (21 * 2 + 16) + 16 * 10 * 3),
}
WHO_COUNTS = {"tensorflow": "tensorflow", "jax": "xla", "torch": "torch"}


@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_the_operations_of_a_step_are_those_counted_by_hand(name: str, measure: Callable[[str], Measured]) -> None:
    found = measured(measure(name), "flops")
    assert {source for _, source in found.values()} == {WHO_COUNTS[name]}
    counted = {model: flops / BY_HAND[model] for model, (flops, _) in found.items()}
    assert 1 <= counted.pop("mlp") < 1.02  # and the elementwise work
    assert 0.95 < counted.pop("padded") < 1.03  # XLA leaves out what padding multiplies
    assert 0.97 < counted.pop("recurrent") < 1.08  # TensorFlow also computes the gradient by the layer's input
    assert 1 <= counted.pop("convolution") < 1.03
    assert not counted


def test_a_step_that_cannot_be_counted_is_trained_as_any_other(backend: Measured) -> None:
    assert measured(backend, "uncountable") == ["completed", True, None]


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_no_epoch_of_an_ordinary_trial_compiles_anything(name: str, measure: Callable[[str], Measured]) -> None:
    found = measured(measure(name), "compilations")
    for engine, counts in found["by engine"].items():
        assert counts == [0, 0, 0, 0], engine


def test_torch_does_not_tell_what_it_compiles(measure: Callable[[str], Measured]) -> None:
    found = measured(measure("torch"), "compilations")
    assert {count for counts in found["by engine"].values() for count in counts} == {None}


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_what_is_compiled_within_an_epoch_is_counted(name: str, measure: Callable[[str], Measured]) -> None:
    assert measured(measure(name), "compilations")["planted"] == [0, 1]


def test_a_back_end_tells_what_its_smallest_call_takes(backend: Measured) -> None:
    found = measured(backend, "calibrated")
    assert set(found) == {"dispatch_s"}  # there is no GPU
    assert 0 < found["dispatch_s"] < 1


def test_weights_come_back_as_they_were_and_training_goes_on_from_them(backend: Measured) -> None:
    first, second, restored, onward = measured(backend, "snapshots")
    assert restored == first != second
    assert onward != restored


@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_a_trial_that_goes_on_from_a_state_ends_with_the_bits_of_one_that_ran_through(
    name: str, measure: Callable[[str], Measured]
) -> None:
    for case, found in measured(measure(name), "resumed").items():
        assert found["differing"] == [], case
        assert found["told"], case
        # Three batches of three epochs, and the ends of all but the last; Keras's own loop cannot be left within one.
        assert found["states"] == (2 if case.startswith("fit") else 11), case
