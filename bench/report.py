"""Figures, their targets and verdicts: a table for people, JSON for machines. A verdict is printed, never asserted."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One measured thing. ``value`` is what the target judges; without a ``target`` it is told for comparison."""

    section: str
    what: str
    measured: str
    value: float
    target: str = ""
    is_met: bool | None = None

    @property
    def verdict(self) -> str:
        return "" if self.is_met is None else ("ok" if self.is_met else "MISSED")


def at_most(section: str, what: str, value: float, limit: float, measured: str, unit: str = "") -> Row:
    """Return a row whose value should not be above the limit."""
    return Row(section, what, measured, value, f"≤ {limit:g}{unit}", value <= limit)


def at_least(section: str, what: str, value: float, limit: float, measured: str, unit: str = "") -> Row:
    """Return a row whose value should not be below the limit."""
    return Row(section, what, measured, value, f"≥ {limit:g}{unit}", value >= limit)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ms(values: Sequence[float]) -> str:
    """Return "p50 … / p95 …" in milliseconds of durations in seconds."""
    return f"{statistics.median(values) * 1000:.1f} / {quantile(values, 0.95) * 1000:.1f} ms"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, which is readable on a terminal as well."""
    cells = [("what", "measured", "target", "verdict")]
    cells += [(f"{row.section}: {row.what}", row.measured, row.target, row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as JSON."""
    return json.dumps([asdict(row) | {"verdict": row.verdict} for row in rows], ensure_ascii=False, indent=1)


def from_json(text: str) -> list[Row]:
    """Return the rows that ``to_json`` wrote."""
    return [Row(**{key: value for key, value in item.items() if key != "verdict"}) for item in json.loads(text)]
