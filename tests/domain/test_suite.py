from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.domain import sources
from harness.domain.duration import duration
from harness.domain.errors import SuiteError
from harness.domain.grid import product
from harness.domain.handy import auto, metric, mlp
from harness.domain.setting import Setting
from harness.domain.suite import Suite, Target, load_suite, reach

BASE = Setting(dataset="mnist5k", model=mlp(8))
HEAD = "from harness import Setting, Suite, mlp, product, sgd\n"


def suite(**fields: Any) -> Suite:
    return Suite(**{"name": "s", "base": BASE} | fields)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "question.py"
        file.write_text(text)
        return file

    return write


# Targets and durations ---------------------------------------------------------------------------------------


def test_a_number_stands_for_that_much_val_accuracy() -> None:
    assert suite(target=0.9).target == reach("val_accuracy", at_least=0.9)
    assert suite(target=1).target == Target(metric="val_accuracy", at_least=1.0)
    assert suite(target="val_loss <= 0.4").target == reach("val_loss", at_most=0.4)
    assert str(reach("val_loss", at_most=0.4)) == "val_loss ≤ 0.4"
    assert suite(target="val_loss ≤ 0.4").target == reach("val_loss", at_most=0.4)


@pytest.mark.parametrize(
    ("value", "met"), [(0.89, False), (0.9, True), (1.0, True), (None, False), (float("nan"), False)]
)
def test_a_target_is_met_from_its_value_on(value: float | None, met: bool) -> None:
    assert reach("val_accuracy", at_least=0.9).met(value) is met


def test_a_target_can_be_on_a_metric_that_the_suite_asks_for() -> None:
    base = BASE.model_copy(update={"metrics": (metric("r2_score"),)})
    assert str(suite(base=base, target=reach("val_r2_score", at_least=0.9)).target) == "val_r2_score ≥ 0.9"


@pytest.mark.parametrize(("value", "met"), [(0.41, False), (0.4, True), (None, False), (float("nan"), False)])
def test_a_target_from_above_is_met_up_to_its_value(value: float | None, met: bool) -> None:
    assert reach("val_loss", at_most=0.4).met(value) is met


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: suite(target=1.5), "no training can reach val_accuracy 1.5: it lies from 0 to 1"),
        (lambda: suite(target=90), "did you mean 0.9?"),
        (lambda: suite(target=-0.1), "no training can reach val_accuracy -0.1"),
        (lambda: suite(target=float("nan")), "no training can reach val_accuracy nan"),
        (lambda: suite(target=True), "target: expected a val_accuracy such as 0.9"),
        (lambda: suite(target="0.9"), "target: expected a val_accuracy such as 0.9"),
        (lambda: suite(target=reach("val_acc", at_least=0.9)), "unknown metric 'val_acc'; did you mean 'val_accur"),
        (
            lambda: reach("val_loss", at_least=0.4),
            "a target on val_loss, of which lower is better, is given by at_most=",
        ),
        (lambda: reach("accuracy"), "is given by at_least="),
        (lambda: reach("accuracy", at_least=0.1, at_most=0.2), "is given by at_least="),
    ],
)
def test_a_target_that_cannot_be_reached_is_refused(declare: Callable[[], Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        declare()
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h 30m 5s", 5405), ("1.5h", 5400)],
)
def test_a_duration_is_seconds_or_a_text(text: Any, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-5", 0, -1, True, None, "10m5h", float("inf"), "1e3"])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(SuiteError, match="is no duration; give seconds above 0, or a text such as '90s'"):
        duration(text)


# Suites ------------------------------------------------------------------------------------------------------


def test_seeds_are_counted_from_0_or_given() -> None:
    assert suite().all_seeds == (0,)
    assert suite(repeats=3).all_seeds == (0, 1, 2)
    assert suite(seeds=[7, 11]).all_seeds == (7, 11)
    assert suite(seeds=[7, 11, 13], repeats=2).all_seeds == (7, 11)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "two words"}, "name must be made of letters, digits, dots, dashes and underscores, got 'two words'"),
        ({"name": "../up"}, "name must be made of letters"),
        ({"base": 3}, "base must be a Setting, got 3"),
        ({"grid": {"batch_size": [1]}}, "grid must be a grid, such as product(batch_size=[16, 32])"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, "seeds holds a seed twice"),
        ({"seeds": [1], "repeats": 2}, "repeats is 2, but only 1 seeds are given"),
        ({"seeds": [-1]}, "must be at least 0, got -1"),
        ({"small": 3}, "small: expected a mapping of paths to values"),
        ({"timeout": "soon"}, "'soon' is no duration"),
        ({"repeat": 3}, "unknown field 'repeat'; did you mean 'repeats'?"),
    ],
)
def test_a_suite_that_cannot_be_meant_is_one_clear_error(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        suite(**fields)
    assert says in str(refused.value)


def test_automatic_repeats_have_a_seed_for_each_that_there_may_be() -> None:
    assert suite(repeats="auto").repeats == auto()
    assert suite(repeats="auto").all_seeds == tuple(range(50))
    assert suite(repeats=auto(at_least=3, at_most=4), seeds=[7, 11, 13, 17, 19]).all_seeds == (7, 11, 13, 17)
    assert suite(repeats=auto().plain()).repeats == auto()
    assert str(auto()) == "5 to 50 repeats"
    assert (auto().half_width, auto("val_accuracy").half_width, auto(within=0.1).half_width) == (0.039, 0.01, 0.1)
    assert auto("val_loss", within=2.5).half_width == 2.5  # of a quantity of its own unit


@pytest.mark.parametrize(
    ("repeats", "says"),
    [
        (lambda: "often", "repeats must be a whole number, \"auto\" or auto(...), got 'often'"),
        (lambda: True, "repeats must be a whole number"),
        (lambda: auto(at_least=9, at_most=5), "at_least is 9, more than at_most, which is 5"),
        (lambda: auto(within=0), "auto: within must be a number above 0, got 0"),
        (lambda: auto(within=float("nan")), "auto: within must be a number above 0, got nan"),
        (lambda: auto(within="2%"), "auto: within must be a number above 0, got '2%'; write 0.02"),  # type: ignore[arg-type]
        (lambda: auto(within="nan"), "above 0, got 'nan'"),  # type: ignore[arg-type]
        (lambda: auto(within="0.02"), "got '0.02'; write 0.02"),  # type: ignore[arg-type]
        (lambda: auto(at_most=99999999), "auto: at_most must be at most 10,000, got 99999999"),
        (lambda: auto(at_least=2), "at_least must be at least 3, got 2"),
        (lambda: auto(within=1.0), "within is relative for train_s, and so below 1, got 1.0"),
        (lambda: auto("val_loss", within=float("inf")), "within"),
        (lambda: auto(epoch="best"), 'epoch="best" is for metrics; train_s is a time or rate of the whole trial'),
        (lambda: auto("train"), "repeats: unknown metric 'train'"),
        (lambda: auto("time_to_target"), "needs a target"),
        (lambda: {"name": "auto", "wthin": 1}, "unknown field 'wthin'; did you mean 'within'?"),
    ],
)
def test_automatic_repeats_that_cannot_be_meant_are_one_clear_error(repeats: Callable[[], Any], says: str) -> None:
    with pytest.raises(SuiteError) as refused:
        suite(repeats=repeats())
    assert says in str(refused.value)


def test_automatic_repeats_need_as_many_seeds_as_there_may_be_repeats() -> None:
    with pytest.raises(SuiteError, match="repeats is auto, 5 to 50 repeats, but only 2 seeds are given"):
        suite(repeats="auto", seeds=[1, 2])


@pytest.mark.parametrize(
    ("repeats", "count", "way_out"),
    [
        (auto(at_least=3, at_most=12), 3, "give at least 12 seeds, or at_most=3"),
        (auto(), 4, "give at least 50 seeds, or at_least=4 and at_most=4"),
        (auto(), 2, "give at least 50 seeds"),
        (3, 2, "give at least 3 seeds, or repeats=2"),
    ],
)
def test_too_few_seeds_are_answered_with_how_many_would_do(repeats: Any, count: int, way_out: str) -> None:
    with pytest.raises(SuiteError) as refused:
        suite(repeats=repeats, seeds=list(range(count)))
    assert str(refused.value).endswith(f"only {count} seeds are given; {way_out}")


def test_a_call_with_arguments_that_a_function_does_not_take_is_answered_with_those_it_takes(tmp_path: Path) -> None:
    file = tmp_path / "suite.py"
    file.write_text("from harness import auto\n\nauto(confidence=0.9)\n")
    with pytest.raises(SuiteError, match=r"suite.py:3: .*'confidence'; auto takes figure, within, at_least,"):
        load_suite(file)
    file.write_text("def auto():\n    pass\n\nauto(confidence=0.9)\n")
    with pytest.raises(SuiteError, match=r"unexpected keyword argument 'confidence'$"):
        load_suite(file)


def test_automatic_repeats_are_part_of_what_is_asked() -> None:
    hashes = {suite(repeats=repeats).sha256() for repeats in (30, "auto", auto(within=0.02), auto(at_most=31))}
    assert len(hashes) == 4
    assert suite(repeats=30).sha256() == suite(seeds=list(range(30))).sha256()


def test_what_is_asked_has_one_hash_whatever_the_spelling() -> None:
    one = suite(repeats=2, grid=product(batch_size=[16, 32]).where("batch_size>16"), description="why")
    assert one.sha256() == suite(seeds=[0, 1], grid=product(batch_size=(16, 32)).where("batch_size > 16")).sha256()
    assert len({one.sha256(), one.sha256({"small": True}), suite().sha256(), suite(target=0.9).sha256()}) == 4


# Files -------------------------------------------------------------------------------------------------------


def test_a_file_gives_its_suite_its_text_and_its_question(write: Callable[[str], Path]) -> None:
    text = f'"""Why?"""\n{HEAD}suite = Suite(name="s", base=Setting(dataset="mnist5k", model=mlp(8)))\n'
    loaded = load_suite(write(text))
    assert loaded.suite.description == "Why?"
    assert (loaded.text, loaded.path) == (text, str(write(text)))
    assert loaded.suite.base == BASE


def test_a_suite_may_use_what_lies_beside_it(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "beside_the_suite.py").write_text("def net(width=3): ...\nWIDTH = 8\n")
    head = f"{HEAD}from harness import function\nfrom beside_the_suite import WIDTH, net\ndef own(): ...\n"
    base = "Setting(dataset=own, model=function(net, width=WIDTH))"
    loaded = load_suite(write(f'{head}suite = Suite(name="s", base={base})\n'))
    model, dataset = loaded.suite.base.model, loaded.suite.base.dataset
    assert model is not None
    assert model.args["width"] == 8
    assert Path(sources.collected()[model.args["sha256"]].path).name == "beside_the_suite.py"
    assert dataset is not None
    source = sources.collected()[dataset.args["sha256"]]
    assert (source.text, [one.name for one in source.beside]) == (loaded.text, ["beside_the_suite"])


def test_an_own_function_runs_where_its_file_is_not(write: Callable[[str], Path]) -> None:
    file = write(f'{HEAD}def own(width): return width + 1\nsuite = Suite(name="s", base=Setting(model=own))\n')
    model = load_suite(file).suite.base.model
    assert model is not None
    texts = sources.collected()
    source = texts[model.args["sha256"]]
    del sys.modules[source.module_name]  # as in another process
    file.unlink()  # as on another machine
    assert sources.resolve("own", source.sha256, texts)(2) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("suite = (", ":1: '(' was never closed"),
        ("x = 1\nimport no_such_module\n", ":2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f():\n    return 1 / 0\nf()\n", ":2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", ":1: SystemExit: 3"),
        ("x = 1\n", ": the file declares no value named `suite`; add `suite = Suite(...)`"),
        (f'{HEAD}sweet = Suite(name="s", base=Setting())\n', "it has a Suite named 'sweet': rename it"),
        ("suite = {'name': 's'}\n", ": `suite` is a dict, not a Suite"),
        (f"{HEAD}base = Setting(\n    batch_size=0,\n)\n", ":2: Setting: batch_size must be at least 1, got 0"),
        (f"{HEAD}grid = product(batch_size=[])\n", ":2: the axis 'batch_size' is empty"),
        (
            f"{HEAD}base = Setting(optimizer=sgd(learning_rte=1))\n",
            ":2: optimizer 'sgd' has no argument 'learning_rte'",
        ),
        ("from harness import Sweet\n", ":1: ImportError: cannot import name 'Sweet' from 'harness'"),
    ],
)
def test_a_file_that_gives_no_suite_is_one_clear_error(write: Callable[[str], Path], text: str, says: str) -> None:
    file = write(text)
    with pytest.raises(SuiteError) as refused:
        load_suite(file)
    assert str(refused.value).startswith(str(file))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_an_error_that_shows_what_is(write: Callable[[str], Path], tmp_path: Path) -> None:
    write("")
    with pytest.raises(SuiteError, match=r"qestion\.py: there is no such file; .* has: question\.py"):
        load_suite(tmp_path / "qestion.py")
    with pytest.raises(SuiteError, match="is a folder"):
        load_suite(tmp_path)
