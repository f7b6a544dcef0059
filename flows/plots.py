"""Small pictures of a run, as SVG: sharp at every size, a few kB, and drawn without a library."""

import itertools
from collections.abc import Sequence
from datetime import datetime

from flows.markdown import picture

WIDTH_PX = 640
HEIGHT_PX = 150
MAX_BARS = 80
"""Of more values, neighbours are drawn as their mean."""

_MARGIN_PX = 24


def bars(title: str, values: Sequence[float], *, left: str, right: str) -> str:
    """Return a bar chart as an image in Markdown.

    Args:
        title: What is drawn; also the text for who cannot see it.
        values: Heights, at least 0; at least one.
        left: What the first bar stands for.
        right: What the last bar stands for.
    """
    heights = thin_out(values, MAX_BARS)
    top = max(heights) or 1.0
    pitch = (WIDTH_PX - 2 * _MARGIN_PX) / len(heights)
    floor = HEIGHT_PX - _MARGIN_PX
    room = floor - 1.5 * _MARGIN_PX
    drawn = "".join(
        f'<rect x="{_MARGIN_PX + index * pitch:.1f}" y="{floor - room * height / top:.1f}" '
        f'width="{max(pitch - 1, 0.5):.1f}" height="{room * height / top:.1f}"/>'
        for index, height in enumerate(heights)
    )
    edge = WIDTH_PX - _MARGIN_PX
    low = HEIGHT_PX - 8
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{HEIGHT_PX}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>'
        f'<g fill="#3b82f6">{drawn}</g>'
        f'<path d="M{_MARGIN_PX} {floor}H{edge}" stroke="#94a3b8"/>'
        f'<g fill="#334155"><text x="{_MARGIN_PX}" y="18" font-weight="bold">{_text(title)}</text>'
        f'<text x="{edge}" y="18" text-anchor="end">at most {top:,.4g}</text>'
        f'<text x="{_MARGIN_PX}" y="{low}">{_text(left)}</text>'
        f'<text x="{edge}" y="{low}" text-anchor="end">{_text(right)}</text></g></svg>'
    )
    return picture(title, svg.encode(), "image/svg+xml")


def thin_out(values: Sequence[float], num_kept: int) -> list[float]:
    """Return at most so many values: means of neighbours, and nothing is left out."""
    num = min(len(values), num_kept)
    edges = [len(values) * index // num for index in range(num + 1)]
    groups = [values[low:high] for low, high in itertools.pairwise(edges)]
    return [sum(group) / len(group) for group in groups]


def rate_over_time(spans: Sequence[tuple[datetime, float, int]], *, num_bins: int) -> list[float]:
    """Return images per second in spans of equal length, from the first start to the last end.

    Args:
        spans: When each shard began, its seconds, and its images, taken to come evenly.
        num_bins: How many values to return, at least 1.
    """
    first = min(start for start, _, _ in spans)
    edges = [((start - first).total_seconds(), wall_s, num) for start, wall_s, num in spans]
    bin_s = max(start + wall_s for start, wall_s, _ in edges) / num_bins
    if bin_s <= 0:
        return [0.0] * num_bins
    rates = [0.0] * num_bins
    for start, wall_s, num in edges:
        for index in range(num_bins):
            low, high = max(start, index * bin_s), min(start + wall_s, (index + 1) * bin_s)
            if high > low:
                rates[index] += num * (high - low) / wall_s / bin_s
    return rates


def _text(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
