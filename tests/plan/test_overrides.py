"""PATH=VALUE as it is typed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.component import text as shown
from harness.domain.errors import SuiteError
from harness.plan import parse_override


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=1,2.5,1e-3,-4", (1, 2.5, 0.001, -4)),
        ("a=true,False,null", (True, False, None)),
        ("a=relu,tanh", ("relu", "tanh")),
        ("a='1','a,b',\"c\"", ("1", "a,b", "c")),
        ("a=64,[128,64],[]", (64, [128, 64], [])),
        ("a=[relu, [1, 'x']]", (["relu", [1, "x"]],)),
        ('a={"name": "sgd", "learning_rate": 0.1}', ({"name": "sgd", "learning_rate": 0.1},)),
        ("a=sgd,adam(learning_rate=0.1, beta_1=0.8)", ("sgd", {"name": "adam", "learning_rate": 0.1, "beta_1": 0.8})),
        ("a=l2()", ({"name": "l2"},)),
        ("a = 1e3 ", (1000.0,)),
    ],
)
def test_values_on_the_command_line_are_what_they_look_like(text: str, values: tuple[Any, ...]) -> None:
    path, found = parse_override(text)
    assert (path, repr(found)) == ("a", repr(values))


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.lists)
)
def test_a_value_is_read_back_as_it_is_shown(value: Any) -> None:
    assert parse_override(f"a={shown(value)}") == ("a", (value,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch_size", "--set 'batch_size': expected PATH=VALUE"),
        ("batch_size=", "expected PATH=VALUE"),
        ("=3", "expected PATH=VALUE"),
        ("a=1,,2", "--set 'a=1,,2': a value is empty"),
        ("a=[1,2", "missing ']'"),
        ("a=1]", "unexpected ']'"),
        ("a='x", 'missing "\'"'),
        ("a=1,1", "a value is given twice"),
        ("a=sgd(0.1)", "'0.1' is no argument; write name=value"),
        ("a={x}", "is not JSON"),
        ("a=b'c'd", "cannot read the value"),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        parse_override(text)
    assert says in str(refused.value)
