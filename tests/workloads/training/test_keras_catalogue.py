from __future__ import annotations

from contextlib import suppress

import keras
import pytest

from harness.domain import catalogue
from harness.domain.component import make
from harness.domain.errors import SuiteError
from harness.workloads.training.catalogue import generate

GETTERS = {
    "activation": keras.activations,
    "constraint": keras.constraints,
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
}


def test_the_catalogue_is_what_the_installed_keras_has() -> None:
    assert catalogue.FILE.read_text(encoding="utf-8") == generate(), (
        "run `python -m harness.workloads.training.catalogue` to write the catalogue of the installed Keras"
    )


@pytest.mark.parametrize("kind", GETTERS)
def test_keras_takes_every_canonical_name_that_stays_a_text(kind: str) -> None:
    for name in catalogue.names(kind):
        if name == "constant":  # Keras itself cannot build this one from its name: KeyError 'value'
            continue
        with suppress(SuiteError):  # it needs arguments, and so is never a text alone
            assert GETTERS[kind].get(make(kind, name).name) is not None
