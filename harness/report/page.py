"""What a report shows → the text of one HTML file that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import pandas as pd
import vl_convert
from markupsafe import Markup

from harness.report.content import Content, Figure
from harness.report.figures.basis import COLOURS
from harness.report.figures.look import theme

DIGITS: Final = 5  # significant ones, of the numbers that charts are drawn from
_HERE: Final = Path(__file__).parent
# For charts of more settings than `COLOURS` has: of like contrast to white and to near-black, but less unlike.
_FURTHER: Final = (
    "#6f7bd9", "#5b9e2d", "#e0559a", "#00939a", "#b4562f", "#8c62c9", "#8f8d00", "#d9626d", "#2f8fd0", "#a2679b",
    "#47a06f", "#c97800", "#7a86a8", "#a85a52", "#549c98", "#97794f", "#c95fc4",
)  # fmt: skip


def render(content: Content) -> str:
    """Return the page.

    Names and texts reach it escaped, or as JSON in which no tag can end, so that none of them is ever markup. Its
    policy allows only the two scripts that stand in it, by their hashes, and no connection.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [_charts(), (_HERE / "page.js").read_text(encoding="utf-8")]
    return environment.get_template("page.html.j2").render(
        content=content,
        policy=_policy(scripts),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8") + _variables()),
        scripts=[Markup(script) for script in scripts],
        page=_json(_page(content)),
        **_data(content.datasets),
    )


@cache
def _charts() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that no text in it can end.

    vl-convert takes seconds to put it together, the same every time: it is kept in the user's cache folder, below its
    own hash, so that no other text or half of it is ever taken for it.
    """
    path = _cached()
    try:
        digest, _, script = path.read_text(encoding="utf-8").partition("\n")
        if digest == hashlib.sha256(script.encode()).hexdigest():
            return script
    except (OSError, UnicodeError):
        pass
    script = _bundle()
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):  # without a place to keep it in, it is made again
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(f"{hashlib.sha256(script.encode()).hexdigest()}\n{script}", encoding="utf-8")
        aside.replace(path)
    return script


def _cached() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "harness" / f"vega-{version('vl-convert-python')}.js"


def _bundle() -> str:
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub knows no default
    return bundle.replace("</script", "<\\/script").replace("<!--", "\\x3c!--")


def _policy(scripts: list[str]) -> str:
    """Return a content security policy: nothing is loaded, and no other script runs.

    Charts need no 'unsafe-eval', because the page has Vega interpret its expressions. Styles are free, since Vega sets
    them on the elements it draws.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _page(content: Content) -> dict[str, Any]:
    """Return what the script must know beside the rows of the charts."""
    places = [{value: place for place, value in enumerate(axis.values)} for axis in content.axes]
    return {
        "axes": [{"name": axis.name, "values": axis.values} for axis in content.axes],
        "settings": [
            {
                "key": row.key,
                "label": row.label,
                "axes": [of_axis.get(value, -1) for of_axis, value in zip(places, row.axes, strict=True)],
            }
            for row in content.rows
        ],
        "figures": {figure.id: _figure(figure) for figure in content.figures if figure.specs},
        "theme": {"config": _config(), "colours": [*COLOURS, *_FURTHER]},
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "title": figure.title,
        "most": figure.most if figure.by_setting else None,
        "controls": [{"name": one.name, "field": one.field} for one in figure.controls],
        "specs": figure.specs,
    }


def _config() -> dict[str, Any]:
    """Return the theme of the charts with a variable of CSS for what differs between light and dark.

    So a chart that is drawn goes from one to the other, and to the light one on paper, without being drawn again.
    """
    names = {colours: f"var({name})" for name, colours in _themed().items()}

    def merged(light: Any, dark: Any) -> Any:
        if isinstance(light, Mapping):
            return {name: merged(light[name], dark[name]) for name in light}
        return light if light == dark else names[light, dark]

    return {**merged(theme(), theme(dark=True)), "background": "transparent"}


def _variables() -> str:
    """Return the same variables as CSS."""
    told = (f"  {name}: light-dark({light}, {dark});\n" for name, (light, dark) in _themed().items())
    return f"\n:root {{\n{''.join(told)}}}\n"


@cache
def _themed() -> dict[str, tuple[str, str]]:
    """Return the colours that differ between the light theme and the dark one, by a name for each pair."""

    def pairs(light: Any, dark: Any) -> Iterator[tuple[str, str]]:
        if isinstance(light, Mapping):
            for name in light:
                yield from pairs(light[name], dark[name])
        elif light != dark:
            yield light, dark

    return {f"--chart-{place}": pair for place, pair in enumerate(dict.fromkeys(pairs(theme(), theme(dark=True))))}


def _data(datasets: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the data sets by columns, and the columns: each once, whatever data sets have it; each text once too."""
    numbers: dict[Markup, int] = {}

    def place(values: list[Any]) -> int:
        return numbers.setdefault(_json(values), len(numbers))

    found = {}
    for name, frame in datasets.items():
        columns = {str(column): [place(part) for part in _column(frame[column])] for column in frame.columns}
        found[name] = _json({"rows": len(frame), "columns": columns})
    return {"datasets": found, "columns": list(numbers)}


def _column(values: pd.Series) -> tuple[list[Any], ...]:
    """Return a column's values, numbers to `DIGITS`; or, of texts, those that there are, and which it is for each row
    (-1: none)."""
    if pd.api.types.is_bool_dtype(values.dtype):
        return ([None if pd.isna(one) else bool(one) for one in values.tolist()],)
    if pd.api.types.is_numeric_dtype(values.dtype):
        return (rounded(values.to_numpy(dtype=np.float64, na_value=np.nan)),)
    plain = values.astype(object)
    plain = plain.where(plain.notna(), None)
    if any(not isinstance(one, str | None) for one in plain):
        return ([finite(one) for one in plain],)
    codes, names = pd.factorize(plain)
    return list(names), codes.tolist()


def rounded(numbers: np.ndarray) -> list[float | int | None]:
    """Return numbers with `DIGITS` significant digits, whole ones as such, None for what is no finite number."""
    known = np.isfinite(numbers)
    numbers = np.where(known, numbers, 0.0)
    with np.errstate(divide="ignore"):
        places = DIGITS - 1 - np.floor(np.log10(np.abs(numbers)))
    places = np.clip(np.where(numbers == 0, 0, places), -300, 300)
    up, down = 10.0 ** np.clip(places, 0, None), 10.0 ** np.clip(-places, 0, None)
    # Whole numbers over powers of ten are the decimals that are meant, with nothing behind them.
    found = np.where(numbers == np.rint(numbers), numbers, np.rint(numbers * up / down) * down / up).tolist()
    return [
        None if not is_known else int(one) if one.is_integer() else one
        for one, is_known in zip(found, known.tolist(), strict=True)
    ]


def finite(value: Any) -> Any:
    """Return a value as JSON can hold it: None for what is no finite number or not known, rounded otherwise."""
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(one) for one in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.number):
        return rounded(np.array([value], dtype=np.float64))[0]
    return None if value is None or value is pd.NA or value is pd.NaT else str(value)


def _json(value: Any) -> Markup:
    """Return JSON that can stand in a script element: no tag and no comment can begin in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
