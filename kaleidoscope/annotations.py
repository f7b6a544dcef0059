"""Files that say something of sources: CSV, parquet, JSON lines, or COCO's JSON.

A row is what a file says of one source, by column; ``file_name`` names the source. CSV knows no
types, so its values stay text and ``007`` keeps its zeros. Of a COCO file come the image's number,
as ``image_id``, and its boxes, as Hugging Face's ImageFolder has them in ``objects``; outlines and
crowds, which are no boxes, stay out. Format: https://cocodataset.org/#format-data.
"""

import csv
import io
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.errors import PlanError

Row: TypeAlias = Mapping[str, Any]

_logger = logging.getLogger(__name__)


def read_rows(data: bytes, extension: str, *, origin: str) -> Iterator[Row]:
    """Yield the rows of a file.

    Args:
        data: The whole file.
        extension: Which says what it is: ``.csv``, ``.parquet``, ``.jsonl`` or ``.json``.
        origin: What to call it in an error, such as "the labels …".

    Raises:
        PlanError: If it is something else, or damaged.
    """
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows, ".jsonl": _json_rows}
    try:
        yield from readers.get(extension, _coco_rows)(data)
    except (pa.ArrowException, csv.Error, OSError, ValueError, RecursionError) as error:
        raise PlanError(f"{origin} cannot be read: {error}") from error


def _parquet_rows(data: bytes) -> Iterator[Row]:
    for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
        yield from batch.to_pylist()


def _csv_rows(data: bytes) -> Iterator[Row]:
    # Strict, or an open quote would take the rest of the table for one cell.
    lines = csv.reader(io.StringIO(_text(data), newline=""), strict=True)
    header = next(lines, [])
    if len(set(header)) < len(header):
        raise ValueError(f"a column stands twice in {', '.join(header)}")
    for cells in lines:
        if not cells:  # An empty line.
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {lines.line_num} has {len(cells)} cells and the header {len(header)}"
            )
        yield {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _json_rows(data: bytes) -> Iterator[Row]:
    # Not splitlines, which parts lines at characters that JSON strings may hold.
    for number, line in enumerate(_text(data).split("\n"), start=1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} must be a JSON object, got {line:.80}")  # noqa: TRY004 -- of the file, not the caller.
        yield row


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig")


def _coco_rows(data: bytes) -> Iterator[Row]:
    document = json.loads(data)
    try:
        names = {category["id"]: category["name"] for category in document["categories"]}
        boxes = _coco_boxes(document["annotations"], names)
        files: dict[Any, str] = {}
        for image in document["images"]:
            if image["id"] in files:
                raise ValueError(
                    f"image id {image['id']!r} stands twice, for {files[image['id']]} and for "
                    f"{image['file_name']}, so nobody knows whose its annotations are; give each "
                    "image an id of its own"
                )
            files[image["id"]] = image["file_name"]
            own = boxes.pop(image["id"], [])
            objects = {
                "bbox": [bbox for bbox, _ in own],
                "categories": [category for _, category in own],
            }
            yield {"file_name": image["file_name"], "image_id": image["id"], "objects": objects}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"a .json file must be COCO's, with images, annotations and categories ({error!r}); a "
            "table with a row in each line is called .jsonl"
        ) from error
    if boxes:
        raise ValueError(
            f"{len(boxes)} image_id of annotations are of no image ({next(iter(boxes))!r}, for one)"
        )


def _coco_boxes(
    annotations: list[dict[str, Any]], names: Mapping[Any, str]
) -> dict[Any, list[tuple[Any, str]]]:
    """Return box and category of each object by its image."""
    boxes: dict[Any, list[tuple[Any, str]]] = defaultdict(list)
    num_crowds = 0
    for annotation in annotations:
        if annotation.get("iscrowd"):
            num_crowds += 1
        else:
            category = names[annotation["category_id"]]
            boxes[annotation["image_id"]].append((annotation["bbox"], category))
    if num_crowds:
        _logger.warning("%d annotations are of crowds (iscrowd) and are left out", num_crowds)
    return boxes
