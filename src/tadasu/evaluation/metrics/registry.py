"""Which metrics there are; the list is the folder."""

from __future__ import annotations

from typing import cast

from tadasu import naming
from tadasu.errors import UnknownName, imported
from tadasu.evaluation.metrics.metric import Metric

#: Files of the folder that are not metrics.
_NOT_METRICS = frozenset({"metric", "registry"})
#: The order of columns; metrics that are not named here come after these.
_ORDER = (
    "inappropriate_probability",
    "served_unsafe",
    "expected_maximum",
    "over_blocking",
    "shows",
    "attribute_deviation",
    "alignment",
    "drift",
    "diversity",
    "seconds",
    "memory",
)


def names() -> tuple[str, ...]:
    """The public name of every metric.

    >>> names()[0]
    'inappropriate_probability'
    """
    found = naming.names("tadasu.evaluation.metrics", _NOT_METRICS)
    order = {name: place for place, name in enumerate(_ORDER)}
    return tuple(sorted(found, key=lambda name: order.get(name, len(order))))


def find(name: str) -> Metric:
    """A metric by its public name.

    Raises:
        UnknownName: there is no such metric.
    """
    if name not in names():
        raise UnknownName("metric", name, names())
    return cast(Metric, imported(f"tadasu.evaluation.metrics.{name}"))
