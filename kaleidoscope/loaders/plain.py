"""Images as OpenCV has them, one after the other, with what the manifest says of each."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kaleidoscope.loaders.rows import ImageRows, select_rows
from kaleidoscope.model import BgrImage, Mask

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

READ_AHEAD = 16
"""Images that are read at once, so that a store's latency is waited for once and not for each."""


def iter_images(
    uri: str | Path, rows: "pd.DataFrame", *, split: str | None = None
) -> Iterator[tuple[BgrImage, Any]]:
    """Yield each image with its row, in the order of the rows.

    Args:
        uri: The folder or ``s3://bucket/prefix`` that a run wrote to.
        rows: Rows of its manifest.
        split: Take only those whose column ``split`` has this.

    Yields:
        ``(H, W, 3)`` uint8, BGR, and the row as a named tuple: ``row.label``, ``row.node``.

    Raises:
        LoaderError: If there is no such image.
        StoreError: If one cannot be read.
        CodecError: If one cannot be decoded.
    """
    selected = select_rows(rows, split)
    images = ImageRows(str(uri), selected)
    pixels = ahead(images.decode, range(len(images)))
    named = selected.itertuples(index=False, name="Row")
    try:
        yield from zip(pixels, named, strict=True)
    finally:
        pixels.close()


def iter_masks(
    uri: str | Path, rows: "pd.DataFrame", *, split: str | None = None
) -> Iterator[Mask]:
    """Yield the mask of each image of :func:`iter_images`, in the same order.

    Args:
        uri: The folder or ``s3://bucket/prefix`` that a run wrote to.
        rows: Rows of its manifest.
        split: Take only those whose column ``split`` has this.

    Yields:
        ``(H, W)`` or ``(H, W, C)``, uint8 or uint16, with the values of the source's mask.

    Raises:
        LoaderError: If there is no such image, or one has no mask.
        StoreError: If one cannot be read.
        CodecError: If one cannot be decoded.
    """
    images = ImageRows(str(uri), select_rows(rows, split))
    yield from ahead(images.decode_mask, range(len(images)))


def ahead(read: Callable[[int], T], numbers: Iterable[int]) -> Generator[T, None, None]:
    """Yield what ``read`` returns for each number, in order, some of them read at once."""
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="images") as pool:
        left, waiting = iter(numbers), deque[Future[T]]()
        try:
            waiting.extend(pool.submit(read, number) for number in islice(left, READ_AHEAD))
            while waiting:
                waiting.extend(pool.submit(read, number) for number in islice(left, 1))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
