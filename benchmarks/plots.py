"""The measurements as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from benchmarks.measuring import Rounds, Spread
from benchmarks.scale import Scale

mpl.use("Agg")
from matplotlib import pyplot as plt

_OURS, _LIMIT, _OTHERS = "#1b6ca8", "#2a9d5c", "#b9c2cc"


def plot_engines(rounds: Rounds, path: Path) -> None:
    """Draw the CPU time of each variant as a bar, with its quartiles."""
    names = sorted(rounds.by_name, key=lambda name: rounds.cpu_ms(name).median, reverse=True)
    spreads = [rounds.cpu_ms(name) for name in names]
    colors = [
        _LIMIT if name.startswith(("limit", "codec")) else _OURS if "Kalei" in name else _OTHERS
        for name in names
    ]
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(names) + 1.2), layout="constrained")
    medians = [spread.median for spread in spreads]
    errors = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    axes.barh(names, medians, xerr=errors, color=colors, ecolor="#444444", capsize=2)
    for row, median in enumerate(medians):
        axes.annotate(f" {median:.2f}", (errors[1][row] + median, row), va="center", fontsize=8)
    axes.set_xlabel("CPU ms for each output of 400 x 400, JPEG quality 95 (less is better)")
    _save(figure, axes, path)


def plot_curve(spreads: Mapping[float, Spread], path: Path, *, x: str, y: str) -> None:
    """Draw medians as a line in a band of quartiles."""
    xs = list(spreads)
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(xs, [spread.median for spread in spreads.values()], marker="o", color=_OURS)
    lows, highs = ([getattr(s, end) for s in spreads.values()] for end in ("low", "high"))
    axes.fill_between(xs, lows, highs, color=_OURS, alpha=0.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _save(figure, axes, path)


def plot_scale(scales: Sequence[Scale], path: Path, *, x: str) -> None:
    """Draw CPU seconds and peak memory over the number of keys or rows, both from zero."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    numbers = [scale.number for scale in scales]
    left.loglog(numbers, [scale.cpu_s for scale in scales], marker="o", color=_OURS)
    left.set_ylabel("CPU s")
    right.semilogx(numbers, [s.peak_bytes / 1e6 for s in scales], marker="o", color=_OURS)
    right.set_ylabel("peak MB")
    right.set_ylim(0, 1.15 * max(scale.peak_bytes for scale in scales) / 1e6)
    for axes in (left, right):
        axes.set_xlabel(x)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _save(figure: plt.Figure, axes: plt.Axes, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
