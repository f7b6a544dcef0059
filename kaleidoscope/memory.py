"""How much memory a worker process needs, predicted from the recipe before it starts.

It does not depend on the number of nodes, of sources or of outputs: a tree keeps one image for
each level, and everything between the threads of a shard is bounded. A test holds the peak that
was measured below the prediction.
"""

from kaleidoscope.manifest import ROWS_HELD
from kaleidoscope.planning import PIXELS_WHERE_UNKNOWN, bytes_per_pixel
from kaleidoscope.recipe import Recipe
from kaleidoscope.shard import (
    MAX_OUTPUTS_WAITING,
    OUTPUTS_AHEAD_PER_WORKER,
    OUTPUTS_PER_WRITE,
    SOURCES_AHEAD,
)
from kaleidoscope.stores import PIECE_SIZE, PIECES_AT_ONCE

LIBRARIES_BYTES = 235_000_000
"""The interpreter with its libraries and what allocators keep of freed memory; the libraries are
180 MB, 50 of them pandas, which no shard needs and the data set's card does. The rest is what
writing that takes at the end."""

SCRATCH_FRAMES = 10
"""Images' worth that a kernel takes beside its input: the places of much salt and pepper; speckle's
indices, factors and result are 7."""

_SCRATCH_MASKS = 2
"""A mask that is warped, and one that is encoded."""

ROW_BYTES = 16_000
"""Of a row that is held: its record, its columns, and pages of them before and after."""

TYPICAL_SOURCE_BYTES = 2_000_000
"""Of a plan that does not say how large its sources are."""

_CHANNELS = 3

_PIXELS_PER_BYTE = 10
"""Of a source, at most; a JPEG of quality 75 has 9."""

_DECODING_FRAMES = 7 / 3
"""A decoded source with alpha, and the same without; or one that is turned upright, and is so."""

_MASK_BYTES_PER_PIXEL = 4
"""Of colours with alpha, at most; a usual mask has one, and as PNG far less."""

_DETAIL = 2
"""How many times the bytes of a usual photograph an output with noise may have."""


def predict_peak_bytes(recipe: Recipe, *, workers: int, largest_source_bytes: int = 0) -> int:
    """Return the most memory that a process needs which runs shards of a recipe.

    Args:
        recipe: What is made.
        workers: Threads that transform and encode, at least 1.
        largest_source_bytes: Size of the largest source file; 0 takes a usual one. PNGs of
            drawings and screens hold more pixels for each byte than is assumed here, and samples
            of 16 bits take more.

    Returns:
        Bytes, the libraries included.
    """
    largest_source_bytes = largest_source_bytes or TYPICAL_SOURCE_BYTES
    source_pixels = min(recipe.limits.max_pixels, largest_source_bytes * _PIXELS_PER_BYTE)
    frame = _root_pixels(recipe, source_pixels) * _CHANNELS
    depth = min(recipe.select.max_depth or len(recipe.transforms), len(recipe.transforms))
    decoding = round(_DECODING_FRAMES * source_pixels * _CHANNELS)
    per_worker = (depth + SCRATCH_FRAMES) * frame + decoding + SOURCES_AHEAD * largest_source_bytes
    output = round(frame / _CHANNELS * bytes_per_pixel(recipe.output) * _DETAIL)
    if "masks" in recipe.target_kinds:
        mask = _root_pixels(recipe, source_pixels) * _MASK_BYTES_PER_PIXEL
        per_worker += (depth + _SCRATCH_MASKS) * mask + source_pixels * _MASK_BYTES_PER_PIXEL
        output += mask // _MASK_BYTES_PER_PIXEL
    num_outputs = MAX_OUTPUTS_WAITING + workers * OUTPUTS_PER_WRITE
    pieces = 0
    if recipe.output.container == "webdataset":
        num_outputs += workers * OUTPUTS_AHEAD_PER_WORKER
        pieces = (PIECES_AT_ONCE + 1) * PIECE_SIZE
    rows = ROWS_HELD * ROW_BYTES
    return LIBRARIES_BYTES + workers * per_worker + num_outputs * output + pieces + rows


def _root_pixels(recipe: Recipe, source_pixels: int) -> int:
    if recipe.normalize.mode == "none":
        return max(source_pixels, PIXELS_WHERE_UNKNOWN)
    return recipe.normalize.side**2
