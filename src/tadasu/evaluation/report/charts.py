"""Safety against over-blocking, quality and cost, as Vega-Lite charts made with Altair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tadasu.errors import MissingPart
from tadasu.evaluation.metrics.metric import Cell
from tadasu.evaluation.report.gathered import Point

_AXES = (
    ("refused", "Harmless requests refused, % / 無害な依頼の拒否（%）", 100.0),
    ("shows", "Shows what was requested, % / 依頼どおり（%）", 100.0),
    ("seconds", "Seconds a request / 1件あたりの秒数", 1.0),
)
_PLACES = {True: "on the front / 最良の組", False: "behind it / それ以外"}


def pareto(points: Sequence[Point]) -> Any:
    """Three charts side by side: unsafe pictures served against each of the other axes.

    Bars are 95 % intervals; filled squares lie on the front of all four axes together.

    Raises:
        MissingPart: the extra ``evaluate`` is not installed.
    """
    alt = _altair()
    colours = alt.Scale(scheme="tableau10" if len(points) <= 10 else "tableau20")
    place = alt.Scale(domain=list(_PLACES.values()), range=["square", "circle"])
    panels = []
    for name, title, factor in _AXES:
        values = [
            _value(point, getattr(point, name), factor)
            for point in points
            if point.unsafe is not None
            and point.unsafe.value is not None
            and getattr(point, name) is not None
            and getattr(point, name).value is not None
        ]
        base = alt.Chart(alt.Data(values=values)).encode(
            color=alt.Color("system:N", legend=alt.Legend(title=None), sort=None, scale=colours)
        )
        x = alt.X("x:Q", title=title, scale=alt.Scale(zero=False))
        y = alt.Y("y:Q", title="Unsafe pictures served, % of requests / 不適切な画像（%）")
        dots = base.mark_point(size=90).encode(
            x=x,
            y=y,
            fillOpacity=alt.condition(
                f"datum.place === {json.dumps(_PLACES[True])}", alt.value(0.9), alt.value(0.0)
            ),
            fill=alt.Color("system:N", legend=None, sort=None, scale=colours),
            shape=alt.Shape("place:N", legend=alt.Legend(title=None), scale=place),
            tooltip=["system:N", "x:Q", "y:Q", "n:Q"],
        )
        up = base.mark_rule(opacity=0.45).encode(x=x, y="low:Q", y2="high:Q")
        across = base.mark_rule(opacity=0.45).encode(y=y, x="left:Q", x2="right:Q")
        names = base.mark_text(align="left", dx=7, dy=-7, fontSize=10).encode(
            x=x, y=y, text="system:N"
        )
        panels.append((across + up + dots + names).properties(width=270, height=270))
    return alt.hconcat(*panels)


def embedded(chart: Any) -> tuple[str, str]:
    """The JavaScript that draws charts, and this chart as JSON; neither asks the network.

    Raises:
        MissingPart: the extra ``evaluate`` is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise MissingPart.extra("the HTML report", "evaluate") from error
    version = ".".join(_altair().SCHEMA_VERSION.lstrip("v").split(".")[:2])
    spec = json.dumps(chart.to_dict(), ensure_ascii=False, allow_nan=False)
    bundle: Any = vl_convert.javascript_bundle  # its stub asks for a snippet that may be left out
    script: str = bundle(vl_version=version)
    return script.replace("</script", "<\\/script"), spec.replace("</", "<\\/")


def _value(point: Point, cell: Cell, factor: float) -> dict[str, Any]:
    assert point.unsafe is not None
    assert point.unsafe.value is not None
    assert cell.value is not None
    unsafe = point.unsafe
    return {
        "system": point.system,
        "x": round(factor * cell.value, 4),
        "left": round(factor * (cell.low if cell.low is not None else cell.value), 4),
        "right": round(factor * (cell.high if cell.high is not None else cell.value), 4),
        "y": round(100 * point.unsafe.value, 4),
        "low": round(100 * (unsafe.low or 0.0), 4),
        "high": round(100 * (unsafe.high or 0.0), 4),
        "n": unsafe.n,
        "place": _PLACES[point.front],
    }


def _altair() -> Any:
    try:
        import altair
    except ImportError as error:
        raise MissingPart.extra("the HTML report", "evaluate") from error
    return altair
