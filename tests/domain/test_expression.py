from __future__ import annotations

import pickle
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.errors import SuiteError
from harness.domain.expression import Expression

SETTING: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": {"kind": "optimizer", "name": "sgd", "learning_rate": 0.1},
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": None,
    "model.hidden": [128, 64],
    "model.layers.0.filters": 8,
    "label": "a[0] b.0",
    "shuffle": True,
}


def lookup(path: str) -> Any:
    if path not in SETTING:
        raise KeyError(f"unknown path {path!r}")
    return SETTING[path]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("batch_size >= 32 and optimizer.name == 'sgd'", True),
        ("16 <= batch_size < 32", False),
        ("batch_size in [16, 32] or batch_size == 0", True),
        ("batch_size not in (16, 32)", False),
        ("not shuffle", False),
        ("shuffle == true", True),
        ("1280 // batch_size", 40),
        ("2 ** 3 + 7 % 4 - -1", 12),
        ("batch_size / 64 if shuffle else 0", 0.5),
        ("max(16, batch_size, 8) + min(model.hidden) + abs(-1)", 97),
        ("len(model.hidden)", 2),
        ("log2(batch_size) + sqrt(4) + round(2.46, 1)", 9.5),
        ("model.layers.0.filters", 8),
        ("model.layers[0].filters * 2", 16),
        ("model.hidden == [128, 64]", True),
        ("label == 'a[0] b.0'", True),
        ("optimizer == 'sgd'", True),
        ("optimizer in ['adam', 'sgd']", True),
    ],
)
def test_an_expression_has_the_value_that_it_has_in_python(text: str, value: Any) -> None:
    assert Expression(text).evaluate(lookup) == value
    assert Expression(str(Expression(text))).evaluate(lookup) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("optimizer.momentum > 0", False),
        ("optimizer.momentum <= 0", False),
        ("optimizer.momentum == null", True),
        ("optimizer.momentum + 1", None),
        ("-optimizer.momentum", None),
        ("max(optimizer.momentum, 1)", None),
    ],
)
def test_what_a_setting_does_not_have_is_none(text: str, value: Any) -> None:
    assert Expression(text).evaluate(lookup) is value


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("batch_size >=", 1, "invalid syntax"),
        ("batch_size = 1", 12, "equality is written =="),
        ("batch_size > 1; 2", 15, "invalid syntax"),
        ("batch_size > __import__('os').getpid()", 14, "not part of the expression language"),
        ("open('x')", 1, "the functions are abs, len"),
        ("max(1, 2, key=3)", 1, "without keywords"),
        ("[x for x in model.hidden]", 1, "ListComp"),
        ("lambda: 1", 1, "Lambda"),
        ("f'{batch_size}'", 1, "JoinedStr"),
        ("(1).real", 1, "expected a path"),
        ("batch_size is None", 1, "use == or !="),
        ("3 + ~batch_size", 5, "use not"),
        ("b'bytes' == label", 1, "Constant"),
        ("1 + 2j", 5, "Constant"),
        ("round(1, 2, 3)", 1, "got 3 arguments"),
        ("(" * 60 + "1" + ")" * 60 + " + (", 125, ""),
        ("- " * 60 + "1", 103, "nested more than 50 deep"),
    ],
)
def test_what_the_language_does_not_have_is_refused_with_its_place(text: str, column: int, says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        Expression(text)
    assert f"column {column}:" in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch_size ** 9999", "column 15: the exponent 9999 is beyond 64"),
        ("9 ** 64 * 9 ** 64", "not a number of a reasonable size"),
        ("(-8) ** 0.5", "not a number of a reasonable size"),
        ("1 / (batch_size - 32)", "column 1: division by zero"),
        ("'a' * 1000", "column 1: expected a number, got 'a'"),
        ("model.hidden * 1000", "expected a number, got [128, 64]"),
        ("model.layers.0.filters + 'x'", "column 26: expected a number, got 'x'"),
        ("label < 3", "column 9: cannot compare 'a[0] b.0' with 3"),
        ("1 in batch_size", "column 6: `in` needs a list, got 32"),
        ("round(1.5, 999)", "digits from -15 to 15"),
        ("2 ** 0.5 + batchsize", "column 12: unknown path 'batchsize'"),
        ("log2(0)", "column 1:"),
    ],
)
def test_a_value_that_an_operator_does_not_take_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        Expression(text).evaluate(lookup)
    assert says in str(refused.value)


def test_an_expression_that_is_too_long_or_empty_is_refused() -> None:
    with pytest.raises(SuiteError, match="longer than 2000 characters"):
        Expression("1 + " * 1000 + "1")
    with pytest.raises(SuiteError, match="empty"):
        Expression("  ")
    with pytest.raises(SuiteError, match="an expression is a text"):
        Expression(32)  # type: ignore[arg-type]


def test_a_number_is_no_condition() -> None:
    assert Expression("optimizer.momentum").holds(lookup) is False
    with pytest.raises(SuiteError, match="'batch_size' is no condition: its value is 32"):
        Expression("batch_size").holds(lookup)


def test_expressions_are_equal_when_only_their_layout_differs() -> None:
    one, other = (
        Expression("batch_size>=32  and (optimizer.name=='sgd')"),
        Expression(str(Expression('batch_size >= 32 and optimizer.name == "sgd"'))),
    )
    assert one == other
    assert hash(one) == hash(other)
    assert str(one) == "batch_size >= 32 and optimizer.name == 'sgd'"
    assert one.names == ("batch_size", "optimizer.name")
    assert pickle.loads(pickle.dumps(one)) == one
    assert str(Expression("model.layers.0.filters > 'a.0'")) == "model.layers.0.filters > 'a.0'"


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_one_clear_error(text: str) -> None:
    with suppress(SuiteError):
        Expression(text).evaluate(lookup)
