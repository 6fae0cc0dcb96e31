"""Figures: which rows are in them, how they are drawn, and that odd frames leave them whole."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest

from harness.report import figures
from harness.report.figures import Figure, render, spec, theme
from harness.report.figures.basis import COLOURS, LINE, plain

HOSTILE = "<script>alert('1')</script> \"quoted\" & \x00\n" + "long " * 40


def curves(groups: int = 3, epochs: int = 4, *, labels: Callable[[int], str] = "batch_size={}".format) -> pd.DataFrame:
    """Return learning curves: each group twice as slow as the one before."""
    return pd.DataFrame(
        {
            "key": f"k{group}",
            "label": labels(group),
            "epoch": epoch,
            "time_s": 0.1 * 2**group * epoch,
            "samples": 4000.0 * epoch,
            "value": 0.9 - 0.8 * 0.5**epoch - 0.01 * group,
            "low": 0.88 - 0.8 * 0.5**epoch - 0.01 * group,
            "high": 0.92 - 0.8 * 0.5**epoch - 0.01 * group,
            "n": 3,
        }
        for group in range(groups)
        for epoch in range(epochs + 1)
    )


def settings(groups: int = 3, *, labels: Callable[[int], str] = "batch_size={}".format) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "key": f"k{group}",
            "label": labels(group),
            "batch_size": 2 ** (group % 4),
            "rate": 0.1 * (1 + group // 4),
            "trials": 3,
            "reached_of": 3,
            "median_total_train_s": 1.0 + group,
            "median_best": 0.9 + 0.01 * group,
            "front": True,
            "gpu_j": 10.0 + group,
            "front_gpu": group == 0,
            "median_time_to_target_s": 1.0 + group,
            "low_time_to_target_s": 0.5 + group,
            "high_time_to_target_s": math.inf if group == 1 else 1.5 + group,
        }
        for group in range(groups)
    )


def reach(groups: int = 3, repeats: int = 3) -> pd.DataFrame:
    """Return times to the target, of which group 1 missed it once."""
    return pd.DataFrame(
        {
            "key": f"k{group}",
            "label": f"batch_size={group}",
            "seed": seed,
            "time_to_target_s": math.inf if (group, seed) == (1, 2) else 0.5 * (seed + 1) + group,
            "target_epoch": 2.0,
        }
        for group in range(groups)
        for seed in range(repeats)
    )


HARDWARE = pd.DataFrame(
    {
        "setting_id": ["a", "a", "b", "b"],
        "arm": "default",
        "hardware": ["CPU × 1 core", "GPU × 1"] * 2,
        "median_s": [4.0, 0.2, 8.0, 0.4],
        "low_s": [3.9, 0.1, None, None],
        "high_s": [4.1, 0.3, None, None],
        "n": [3, 3, 1, 1],
        "samples_per_s": 1000.0,
        "relative": [20.0, 1.0, 20.0, 1.0],
    }
)
EFFECTS = pd.DataFrame(
    {
        "term": ["batch_size", "batch_size × rate", "noise"],
        "kind": ["axis", "pair", "left"],
        "share": [0.7, math.nan, 0.3],
        "low": [0.5, math.nan, 0.1],
        "high": [0.8, math.nan, 0.5],
        "p": [0.001, math.nan, math.nan],
        "levels": [4, 8, pd.NA],
        "n": 12,
        "note": ["", "one repeat", ""],
    }
)
LEVELS = pd.DataFrame(
    {
        "axis": ["batch_size", "batch_size", "rate"],
        "level": ["16", "32", "0.1"],
        "ratio": [0.5, 2.0, math.nan],
        "low": [0.4, None, None],
        "high": [0.6, None, None],
        "n": [3, 3, 0],
        "left_out": [0, 0, 3],
    }
)
NODES = pd.DataFrame(
    {
        "node": ["n3", "n1", "n2"],
        "ratio": [1.2, 1.0, None],
        "low": [1.1, None, None],
        "high": [1.3, None, None],
        "trials": [3, 3, 0],
        "verdict": ["slower", "cannot tell", "no result"],
    }
)
SCALING = pd.DataFrame(
    {
        "setting_id": "a",
        "arm": "default",
        "resource": "cpus",
        "count": [1.0, 2.0, 4.0],
        "n": 3,
        "speedup": [1.0, 1.8, 3.0],
        "low": [None, 1.7, 2.9],
        "high": [None, 1.9, 3.1],
        "efficiency": [1.0, 0.9, 0.75],
        "amdahl_speedup": [1.0, 1.8, 3.1],
        "amdahl_serial_fraction": 0.1,
    }
)
PROFILES = pd.DataFrame(
    {"solver": ["GPU", "GPU", "CPU", "CPU"], "tau": [1.0, 4.0, 1.0, 4.0], "rho": [1.0, 1.0, 0.0, 0.5]}
)
READINGS = pd.DataFrame(
    {
        "key": "k0",
        "trial": ["x seed=0"] * 3 + ["x seed=1"] * 3,
        "metric": ["cpu_percent", "cpu_percent", "gpu_power_w"] * 2,
        "time_s": [0.0, 1.0, 0.5] * 2,
        "value": [50.0, 100.0, 300.0] * 2,
        "devices": 1,
    }
)
MARKS = pd.DataFrame({"key": "k0", "trial": "x seed=0", "epoch": [1, 2], "start_s": [0.1, 0.5], "end_s": [0.4, 0.8]})

# Each figure of frames as they are, and of empty ones.
DRAWN: dict[str, Callable[[], Figure]] = {
    "time_accuracy": lambda: figures.time_accuracy(
        curves(), settings(), metric="val_accuracy", target=0.8, front=curves().iloc[[1, 2, 3]]
    ),
    "front": lambda: figures.front(settings(), metric="val_accuracy"),
    "energy": lambda: figures.front(settings(), metric="val_accuracy", energy="gpu_j"),
    "learning_curves": lambda: figures.learning_curves(curves(), metric="val_accuracy", over="samples", target=0.8),
    "time_to_accuracy": lambda: figures.time_to_accuracy(reach(), settings(), target="val_accuracy >= 0.8"),
    "heat_map": lambda: figures.heat_map(settings(8), x="batch_size", y="rate", figure="median_best"),
    "strip": lambda: figures.heat_map(settings(4), x="batch_size", figure="high_time_to_target_s"),
    "hardware": lambda: figures.hardware(HARDWARE),
    "nodes": lambda: figures.nodes(NODES),
    "effects": lambda: figures.effects(EFFECTS, figure="time to the target"),
    "levels": lambda: figures.levels(LEVELS, figure="time to the target"),
    "scaling": lambda: figures.scaling(SCALING),
    "profiles": lambda: figures.profiles(PROFILES),
    "telemetry": lambda: figures.telemetry(READINGS, MARKS),
}
EMPTY: dict[str, Callable[[], Figure]] = {
    "time_accuracy": lambda: figures.time_accuracy(curves()[:0], settings()[:0], metric="val_accuracy"),
    "front": lambda: figures.front(settings()[:0], metric="val_accuracy"),
    "learning_curves": lambda: figures.learning_curves(curves()[:0], metric="val_accuracy"),
    "time_to_accuracy": lambda: figures.time_to_accuracy(reach()[:0], settings()[:0]),
    "heat_map": lambda: figures.heat_map(settings()[:0], x="batch_size", figure="median_best"),
    "hardware": lambda: figures.hardware(HARDWARE[:0]),
    "nodes": lambda: figures.nodes(NODES[:0]),
    "effects": lambda: figures.effects(EFFECTS[:0]),
    "levels": lambda: figures.levels(LEVELS[:0]),
    "scaling": lambda: figures.scaling(SCALING[:0]),
    "profiles": lambda: figures.profiles(PROFILES[:0]),
    "telemetry": lambda: figures.telemetry(READINGS[:0], MARKS[:0]),
}


def rows(figure: Figure) -> list[list[dict[str, Any]]]:
    """Return the data sets of a figure."""
    return list(spec(figure)["datasets"].values())


def most_rows(figure: Figure) -> list[dict[str, Any]]:
    return max(rows(figure), key=len)


def encodings(part: Any, channel: str) -> Iterator[dict[str, Any]]:
    """Yield how a channel is encoded in all layers of a figure."""
    if isinstance(part, dict):
        if isinstance(part.get("encoding"), dict) and channel in part["encoding"]:
            yield part["encoding"][channel]
        for one in part.values():
            yield from encodings(one, channel)
    elif isinstance(part, list):
        for one in part:
            yield from encodings(one, channel)


def scale_of(figure: Figure, channel: str) -> str:
    """Return the type of a channel's scale."""
    found = [one["scale"] for one in encodings(spec(figure), channel) if one.get("scale")]
    return str(found[0].get("type", "linear"))


def subtitle(figure: Figure) -> str:
    return str(spec(figure)["title"].get("subtitle", ""))


# What all figures have in common. -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_has_titles_tooltips_and_plain_values(name: str) -> None:
    found = spec(DRAWN[name]())
    json.dumps(found, allow_nan=False)
    assert found["title"]["text"]
    assert any(isinstance(one, list) and one for one in encodings(found, "tooltip"))
    assert "config" not in found
    for channel in ("x", "y"):
        numbers = [one for one in encodings(found, channel) if one.get("type") == "quantitative"]
        assert not numbers or any(one.get("title") for one in numbers)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_becomes_a_picture_without_a_network(name: str) -> None:
    picture = ET.fromstring(render(DRAWN[name](), "svg", dark=name == "front"))
    assert picture.tag.endswith("svg")
    assert len(list(picture.iter())) > 40


def test_a_picture_is_written_as_png_and_pdf_too() -> None:
    figure = figures.profiles(PROFILES)
    small, large = (render(figure, "png", scale=scale) for scale in (1.0, 2.0))
    assert small.startswith(b"\x89PNG")
    assert large[16:24] != small[16:24]  # width and height
    assert render(figure, "pdf").startswith(b"%PDF")


def test_a_picture_may_not_fetch_anything() -> None:
    figure = alt.Chart(alt.UrlData("http://localhost:9/rows.csv")).mark_point().encode(x="x:Q")
    with pytest.raises(ValueError, match="not allowed"):
        render(figure, "svg")


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_frame_gives_an_empty_figure_that_says_so(name: str) -> None:
    ((only,),) = rows(EMPTY[name]())
    assert len(only["why"].split()) > 2


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: figures.learning_curves(curves(), metric="loss", over="weeks"),
            "over='weeks': .* time, epoch, samples",
        ),
        (lambda: figures.learning_curves(curves(), metric="loss", most=0), "most=0"),
        (lambda: figures.heat_map(settings(), x="batch", figure="median_best"), "no column 'batch'; it has key, label"),
        (lambda: figures.heat_map(settings(), x="rate", figure="median_best", most=0), "most=0"),
        (lambda: figures.front(settings(), metric="loss", energy="j"), "energy='j': .* gpu_j, cpu_j"),
        (
            lambda: figures.hardware(HARDWARE.drop(columns="setting_id")[["median_s", "hardware"]]),
            "'label' or 'setting_id'",
        ),
        (lambda: figures.scaling(SCALING.assign(resource=["cpus", "gpus", "cpus"])), "several resources"),
        (lambda: figures.effects(EFFECTS, most=0), "most=0"),
    ],
)
def test_a_wrong_request_is_told(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()


def test_of_many_groups_the_first_in_rank_are_drawn_and_the_title_says_so() -> None:
    figure = figures.time_accuracy(curves(40), settings(40)[::-1], metric="val_accuracy")
    assert list(dict.fromkeys(row["label"] for row in most_rows(figure)))[:2] == ["batch_size=39", "batch_size=38"]
    assert len({row["key"] for row in most_rows(figure)}) == 30
    assert "30 of 40 settings" in subtitle(figure)
    assert "of 3" not in subtitle(figures.time_accuracy(curves(3), metric="val_accuracy"))


def test_long_lines_and_many_repeats_are_thinned_and_keep_their_ends() -> None:
    line = most_rows(figures.learning_curves(curves(1, 5000), metric="val_accuracy", over="epoch"))
    assert (len(line), line[0]["epoch"], line[-1]["epoch"]) == (200, 1, 5000)
    dots = most_rows(figures.time_to_accuracy(reach(2, 1000)))
    assert len(dots) == 200
    assert sum(row["missed"] for row in dots) == 1


def test_labels_are_whole_in_the_rows_and_harmless_in_the_picture() -> None:
    figure = figures.time_to_accuracy(reach().assign(label=HOSTILE + reach()["key"]), most=2)
    label = most_rows(figure)[0]["label"]
    assert label.startswith("<script>alert('1')</script> \"quoted\" &")
    assert len(label) > 200
    assert label.isprintable()
    picture = render(figure, "svg").decode()
    ET.fromstring(picture)
    assert "<script" not in picture
    width = float(ET.fromstring(picture).attrib["width"])
    assert width < 1000


def test_two_groups_of_one_name_stay_two() -> None:
    figure = figures.learning_curves(curves(2, labels=lambda _: "same"), metric="val_accuracy")
    assert {row["label"] for row in most_rows(figure)} == {"same (k0)", "same (k1)"}


def test_frames_as_the_analysis_returns_them_are_named_by_their_settings() -> None:
    frame = curves(2).rename(columns={"key": "setting_id"}).drop(columns="label").assign(arm="default")
    assert {row["label"] for row in most_rows(figures.learning_curves(frame, metric="val_accuracy"))} == {"k0", "k1"}


def test_arrow_columns_and_nulls_are_drawn() -> None:
    frame = curves(1).assign(low=pd.NA, n=1)
    frame["value"] = pd.array([*frame["value"][:-1], None], dtype="double[pyarrow]")
    drawn = most_rows(figures.learning_curves(frame, metric="val_accuracy", over="epoch", untrained=True))
    assert [row["epoch"] for row in drawn] == [0, 1, 2, 3]
    assert {row["low"] for row in drawn} == {None}


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (math.nan, None), (math.inf, None), (pd.NA, None), (pd.NaT, None), (np.float32(0.5), 0.5), (np.int64(3), 3),
        (np.bool_(True), True), (True, True), ("a\nb\x00", "a b "),
    ],
)  # fmt: skip
def test_cells_become_what_json_can_hold(cell: Any, told: Any) -> None:
    assert plain(cell) == told
    assert type(plain(cell)) is type(told)


# Scales and colours. -------------------------------------------------------------------------------------------------


def test_an_axis_is_logarithmic_where_its_values_span_more_than_a_factor_of_ten() -> None:
    near = curves(1, 4)
    assert scale_of(figures.time_accuracy(near, metric="val_accuracy"), "x") == "linear"
    wide = figures.time_accuracy(curves(3, 8), metric="val_accuracy")
    assert scale_of(wide, "x") == "log"
    assert min(row["epoch"] for row in most_rows(wide)) == 1  # the untrained model would take most of the axis
    assert scale_of(figures.learning_curves(curves(3, 50), metric="val_accuracy", over="epoch"), "x") == "linear"


def test_an_accuracy_is_never_on_a_logarithmic_axis_and_a_loss_is_where_it_spans_much() -> None:
    frame = curves(1).assign(value=[2.0, 1.0, 0.5, 0.1, 0.01])
    assert scale_of(figures.learning_curves(frame, metric="val_loss"), "y") == "log"
    assert scale_of(figures.learning_curves(frame, metric="val_accuracy"), "y") == "linear"


def linear(colour: str) -> np.ndarray:
    """Return linear RGB."""
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    """Return the relative luminance (WCAG 2)."""
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_from_white_and_from_near_black() -> None:
    grounds = [theme(dark=dark)["background"] for dark in (False, True)]
    ordered = theme()["range"]["ordinal"]["scheme"]
    assert theme()["range"] == theme(dark=True)["range"]
    for colour in (*COLOURS, *ordered, LINE):
        assert min(contrast(colour, ground) for ground in grounds) > 2.5, colour


# How linear RGB is seen without one kind of cones (Viénot, Brettel and Mollon 1999).
SEEN = {
    "all cones": np.eye(3),
    "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
}


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE 1976 L*a*b*, in which distances are about as they are seen."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN)
def test_any_two_colours_differ_for_all_eyes(eyes: str) -> None:
    seen = [lab(SEEN[eyes] @ linear(colour)) for colour in COLOURS]
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > 29


def test_few_groups_have_their_own_colours_and_many_or_ordered_ones_go_along_a_scale() -> None:
    def kind(frame: pd.DataFrame) -> dict[str, Any]:
        return next(encodings(spec(figures.learning_curves(frame, metric="val_accuracy")), "color"))

    assert kind(curves(3))["type"] == "nominal"
    assert kind(curves(20))["type"] == "ordinal"
    shaded = kind(curves(3).assign(shade=[3] * 5 + [1] * 5 + [2] * 5))
    assert (shaded["type"], shaded["sort"]["field"]) == ("ordinal", "shade")
    assert "domain" not in shaded.get("scale", {})


def test_the_themes_can_be_enabled_in_a_notebook() -> None:
    with alt.theme.enable("harness_dark"):
        assert DRAWN["profiles"]().to_dict()["config"]["background"] == theme(dark=True)["background"]


# One by one. ---------------------------------------------------------------------------------------------------------


def test_the_front_is_steps_that_go_on_to_the_end() -> None:
    figure = DRAWN["time_accuracy"]()
    stairs = next(table for table in rows(figure) if len(table) == 4)
    assert stairs[-1]["x"] == max(row["x"] for row in most_rows(figure))
    assert "the best by each time" in subtitle(figure)


def test_a_target_is_a_line_with_its_value() -> None:
    assert [{"at": 0.8, "text": "target 0.8"}] in rows(DRAWN["learning_curves"]())


def test_bands_are_there_where_there_is_more_than_one_repeat_and_few_groups() -> None:
    def has_band(frame: pd.DataFrame) -> bool:
        return '"type": "area"' in json.dumps(spec(figures.learning_curves(frame, metric="val_accuracy")))

    assert has_band(curves())
    assert not has_band(curves().assign(n=1, low=math.nan, high=math.nan))
    assert "band: quartiles" in subtitle(figures.learning_curves(curves().assign(n=5), metric="val_accuracy"))
    assert "band: least to most" in subtitle(figures.learning_curves(curves(), metric="val_accuracy"))


def test_a_trial_that_missed_the_target_stands_at_the_edge_and_is_not_dropped() -> None:
    figure = DRAWN["time_to_accuracy"]()
    dots = most_rows(figure)
    (missed,) = [row for row in dots if row["missed"]]
    assert missed["x"] > max(row["x"] for row in dots if not row["missed"])
    assert (missed["label"], missed["seed"], missed["told"]) == ("batch_size=1", 2, "missed")
    assert "1 of 9 missed it" in subtitle(figure)
    bars = {row["label"]: row for row in rows(figure)[1]}
    assert (bars["batch_size=1"]["high"], bars["batch_size=1"]["told"]) == (missed["x"], "1.5 to never s")


def test_times_of_which_all_missed_are_crosses_alone() -> None:
    figure = figures.time_to_accuracy(reach().assign(time_to_target_s=math.inf))
    assert all(row["missed"] for row in most_rows(figure))
    render(figure, "svg")


def test_a_heat_map_is_the_median_over_the_other_axes_in_the_axes_own_order() -> None:
    frame = pd.DataFrame({"a": [16, 2, 2, 128], "b": ["x", "x", "x", None], "seconds": [1.0, 2.0, math.inf, 5.0]})
    figure = figures.heat_map(frame, x="a", y="b", figure="seconds")
    rows = most_rows(figure)
    assert list(dict.fromkeys(row["x"] for row in sorted(rows, key=lambda row: row["x_order"]))) == ["2", "16", "128"]
    picture = ET.fromstring(render(figure, "svg"))
    cells = [one.attrib["aria-label"] for one in picture.iter() if "a: " in one.attrib.get("aria-label", "")]
    assert sum("setting: 2 settings; seconds: never" in cell for cell in cells) == 1
    assert sum("a: 128; b: –" in cell and "seconds: 5" in cell for cell in cells) == 2
    assert "median over the other axes" in subtitle(figures.heat_map(frame, x="a", figure="seconds"))


def test_hardware_stands_side_by_side_under_one_name_of_the_setting() -> None:
    drawn = most_rows(figures.hardware(HARDWARE.assign(key=list("abcd"), label=["s CPU × 1 core", "s GPU × 1"] * 2)))
    assert {row["label"] for row in drawn} == {"s (a default)", "s (b default)"}
    assert list(dict.fromkeys(row["hardware"] for row in drawn)) == ["CPU × 1 core", "GPU × 1"]


def test_terms_without_a_share_are_left_out_and_what_is_left_over_stays() -> None:
    drawn = most_rows(figures.effects(pd.concat([EFFECTS] * 3, ignore_index=True), most=1))
    assert [row["term"] for row in drawn] == ["batch_size", "noise", "noise", "noise"]


def test_levels_are_ratios_of_times_and_differences_of_metrics() -> None:
    assert scale_of(DRAWN["levels"](), "x") == "log"
    differing = figures.levels(LEVELS.rename(columns={"ratio": "difference"}).assign(difference=[-0.1, 0.1, 0.0]))
    assert scale_of(differing, "x") == "linear"
    assert [{"at": 0.0}] in rows(differing)


def test_scaling_is_beside_the_ideal() -> None:
    ideal = [{"count": 1.0, "speedup": 1.0}, {"count": 2.0, "speedup": 2.0}, {"count": 4.0, "speedup": 4.0}]
    assert ideal in rows(DRAWN["scaling"]())
    nodes = SCALING.drop(columns=["setting_id", "arm", "resource"]).assign(work="0a1b", trials=12)
    assert spec(figures.scaling(nodes))["title"]["text"] == "speed-up by the number of nodes"


def test_telemetry_is_a_panel_a_metric_with_the_ends_of_the_epochs() -> None:
    found = spec(DRAWN["telemetry"]())
    assert len(found["vconcat"]) == 2
    titles = [one["title"] for one in encodings(found, "y") if one.get("title")]
    assert list(dict.fromkeys(titles)) == ["CPU (%)", "GPU (W)"]
    assert {row["x"] for table in found["datasets"].values() for row in table if "epoch" in row} == {0.4, 0.8}
    assert all(row["key"] == "k0" for table in found["datasets"].values() for row in table)
