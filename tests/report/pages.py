"""What a report shows, made up, and the page that it becomes, taken apart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import pandas as pd

from harness.report.content import (
    Axis,
    Cell,
    Content,
    Control,
    Failure,
    Figure,
    Grid,
    Heading,
    Row,
    Source,
    Warned,
)

_VOID = {"meta", "input", "br", "hr", "img", "link", "area", "base", "col", "embed", "source", "track", "wbr"}


def spec(x: str) -> dict[str, Any]:
    shared = {
        "x": {"field": x, "type": "quantitative"},
        "y": {"field": "value", "type": "quantitative"},
        "color": {"field": "label", "type": "nominal", "sort": None},
    }
    tooltip = [{"field": "label", "type": "nominal", "title": "setting"}]
    points = {"mark": {"type": "point", "filled": True, "size": 150}, "encoding": {**shared, "tooltip": tooltip}}
    layer = [{"mark": "line", "encoding": shared}, points]
    return {"data": {"name": "curves"}, "width": "container", "height": 300, "layer": layer}


def content(labels: list[str], *, epochs: int = 3, **changes: Any) -> Content:
    """Return a report on settings of these names, each of which is the value of one axis too."""
    keys = [f"{place:012x}" for place in range(len(labels))]
    curves = pd.DataFrame(
        [
            {"key": key, "label": label, "epoch": epoch, "time_s": 0.1 * epoch * (place + 1), "value": epoch / 10}
            for place, (key, label) in enumerate(zip(keys, labels, strict=True))
            for epoch in range(1, epochs + 1)
        ],
        columns=["key", "label", "epoch", "time_s", "value"],
    )
    over = Control(name="over", title="Over", choices=(("time_s", "time"), ("epoch", "epochs")))
    figure = Figure(
        id="curves", title="Learning curves", specs={x: spec(x) for x in ("time_s", "epoch")}, controls=(over,)
    )
    of_all = Content(
        title=labels[0] if labels else "nothing",
        question="Which is quickest?",
        answer=f"{labels[0] if labels else 'Nothing'} is quickest.",
        headings=(Heading(text="Time"), Heading(text="Doubts", numeric=False)),
        rows=tuple(
            Row(key=key, label=label, axes=(label,), cells=(Cell(text=f"{place} s", sort=place), Cell(text="–")))
            for place, (key, label) in enumerate(zip(keys, labels, strict=True))
        ),
        axes=(Axis(name=labels[0], values=tuple(labels[:30])),) if labels else (),
        figures=(figure,),
        datasets={"curves": curves},
        meanings=(("Time", "Seconds."),),
    )
    return replace(of_all, **changes)


def everywhere(text: str) -> Content:
    """Return a report that has this text in every place that can hold one."""
    return content(
        [text, "other"],
        question=text,
        answer=text,
        answer_details=(text,),
        notices=(text,),
        facts=((text, text),),
        ranked_by=text,
        warnings=(Warned(name=text, count=1, meaning=text, remedy=text, trials=(text,)),),
        unjudged=(text,),
        discarded=text,
        trust=(text,),
        failures=(Failure(status=text, reason=text, count=900, trials=(text,) * 900),),
        nodes=Grid(headings=(text,), rows=((text,),)),
        packages=Grid(headings=(text,), rows=((text,),)),
        sources=(Source(title=text, facts=((text, text),), command=text, suite_path=text, suite_text=text),),
        meanings=((text, text),),
        made=text,
    )


@dataclass
class Page(HTMLParser):
    """An HTML page, taken apart; what is not well formed is in `wrong`."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.html)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag, _ in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self.wrong.append(f"</{tag}> in {[name for name, _ in self._open[-3:]]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.scripts.append((attributes, data))
        elif tag != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads first."""
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == "page")
