"""Outcomes as lines: for people, for Nagios and its kin, and for Prometheus.

Nagios reads one line, ``TEXT | FIGURES``; further lines are its long text. Prometheus reads gauges, by the textfile
collector of its node exporter.
"""

from __future__ import annotations

from collections.abc import Sequence

from trishula.checks.outcome import Figure, Outcome, worst

__all__ = ["as_nagios", "as_prometheus", "as_text"]

_PREFIX = "trishula_check_"


def as_text(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each check."""
    return [f"{one.level.word:<8}  {one.check}: {one.sentence}" for one in outcomes]


def as_nagios(outcomes: Sequence[Outcome]) -> list[str]:
    """The worst state with what is wrong, and the figures; of several checks each has a line below."""
    level = worst(one.level for one in outcomes)
    # All that is not well; where all is, one check tells its sentence, and several their number.
    wrong = [one for one in outcomes if one.level == level] if level else []
    if not wrong and len(outcomes) > 1:
        said = f"{len(outcomes)} checks are ok"
    else:
        said = "; ".join(f"{one.check}: {one.sentence}" for one in wrong or outcomes)
    figures = " ".join(_performance(figure) for one in outcomes for figure in one.figures)
    first = f"TRISHULA {level.name} - {_unpiped(said)}" + (f" | {figures}" if figures else "")
    return [first, *([_unpiped(line) for line in as_text(outcomes)] if len(outcomes) > 1 else [])]


def as_prometheus(outcomes: Sequence[Outcome]) -> list[str]:
    """Gauges: the state of each check, and each figure."""
    lines = [
        f"# HELP {_PREFIX}state State of a check: 0 ok, 1 warning, 2 critical, 3 unknown.",
        f"# TYPE {_PREFIX}state gauge",
        *(f'{_PREFIX}state{{check="{one.check}"}} {int(one.level)}' for one in outcomes),
    ]
    by_name: dict[str, list[Figure]] = {}
    for one in outcomes:
        for figure in one.figures:
            by_name.setdefault(figure.name, []).append(figure)
    for name, figures in by_name.items():
        lines += [f"# HELP {_PREFIX}{name} {figures[0].help}", f"# TYPE {_PREFIX}{name} gauge"]
        lines += [f"{_PREFIX}{name}{_labels(figure)} {figure.value!r}" for figure in figures]
    return lines


def _labels(figure: Figure) -> str:
    if not figure.labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in figure.labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _performance(figure: Figure) -> str:
    name = "_".join([figure.name, *figure.labels.values()])
    # A label is between quotes, without a quote or an equals sign in it.
    name = "".join("_" if char in "'=|" or char.isspace() else char for char in name)
    unit = "s" if figure.name.endswith("_seconds") else ""
    text = f"'{name}'={figure.value:g}{unit}"
    if figure.bounds is None:
        return text
    # "10:" is Nagios' range for: bad below 10.
    mark = ":" if figure.bounds.is_floor else ""
    return f"{text};{figure.bounds.warn:g}{mark};{figure.bounds.crit:g}{mark}"


def _unpiped(text: str) -> str:
    """Without the character behind which Nagios reads figures."""
    return text.replace("|", "/")
