"""Committed runs without their images: manifests of any size, written as a run writes them."""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kaleidoscope.identity import output_key, source_id
from kaleidoscope.manifest import ROWS_PER_GROUP, SCHEMA
from kaleidoscope.runs import Report, RunKeys
from kaleidoscope.stores import Store

NODES = tuple(
    "".join(letters) or "root" for n in range(7) for letters in itertools.combinations("abcdef", n)
)
"""The 64 nodes of six steps, breadth first."""

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """What a run made of a source, or could not."""

    source_key: str
    content: str | None
    nodes: tuple[str, ...]
    failed: str | None = None


def table(made: Iterable[Made], *, run_id: str, created_at: datetime = BEGAN) -> pa.Table:
    """The rows of a run, one by one."""
    rows = []
    for source in made:
        nodes = [*source.nodes, *([source.failed] if source.failed else [])]
        for node in nodes:
            is_made = node in source.nodes
            identity = source_id(source.source_key)
            key = output_key(source.source_key, node, ".jpg")
            row = {
                "output_id": f"{identity}-{node}",
                "source_id": identity,
                "source_key": source.source_key,
                "source_sha256": source.content,
                "node": node,
                "status": "ok" if is_made else "failed",
                "output_key": key if is_made else None,
                "label": source.source_key.partition("/")[0],
            }
            rows.append({**_constants(run_id, created_at), **row})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def many_rows(keys: Sequence[str], *, run_id: str, nodes: Sequence[str] = NODES) -> pa.Table:
    """The rows of a run that made every node of every source, with texts as long as real ones."""
    ids = [source_id(key) for key in keys]
    count = len(keys) * len(nodes)
    of_source = np.repeat(np.arange(len(keys)), len(nodes))
    of_node = np.tile(np.arange(len(nodes)), len(keys))

    def by_source(values: Sequence[Any]) -> pa.Array:
        return pa.array(values).take(of_source)

    def by_node(values: Sequence[Any]) -> pa.Array:
        return pa.array(values).take(of_node)

    rng = np.random.default_rng(len(keys))
    angles = pc.cast(pa.array(np.round(rng.uniform(-30, 30, count), 12)), pa.string())
    noise = pc.cast(pa.array(rng.integers(0, 2**53, count)), pa.string())
    params = pc.binary_join_element_wise('{"angle_deg":', angles, ',"seed":', noise, "}", "")
    node = by_node(list(nodes))
    identity, stem = by_source(ids), by_source([key.removesuffix(".jpg") for key in keys])
    short = by_source([name[:8] for name in ids])
    op = by_node(["normalize" if n == "root" else f"Op{n[-1].upper()}" for n in nodes])
    start = '[{"op":"normalize","version":1,"params":{"mode":"crop","side":400}},{"op":"'
    columns = {
        "output_id": pc.binary_join_element_wise(identity, node, "-"),
        "parent_id": pc.if_else(
            pc.equal(node, "root"),
            None,
            pc.binary_join_element_wise(identity, by_node([_parent(n) for n in nodes]), "-"),
        ),
        "source_id": identity,
        "source_key": by_source(list(keys)),
        "source_sha256": by_source([name * 4 for name in ids]),
        "source_width": pa.repeat(pa.scalar(640, pa.int32()), count),
        "node": node,
        "depth": by_node([0 if n == "root" else len(n) for n in nodes]).cast(pa.int8()),
        "op": op,
        "params": params,
        "ops": pc.binary_join_element_wise(start, op, '","version":1,"params":', params, "}]", ""),
        "label": by_source([key.rpartition("/")[0].rpartition("/")[2] for key in keys]),
        "output_key": pc.binary_join_element_wise(
            pc.binary_join_element_wise(stem, short, node, "-"), ".jpg", ""
        ),
        "sha256": pc.binary_join_element_wise(noise, angles, noise, ""),
        "status": pa.repeat("ok", count),
    }
    constants = _constants(run_id, BEGAN)
    arrays = [
        columns.get(field.name, pa.repeat(pa.scalar(constants.get(field.name), field.type), count))
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def commit(store: Store, run_id: str, tables: Iterable[pa.Table]) -> None:
    """Write a run: each table a file of its manifest, a report that counts them, the mark."""
    keys = RunKeys(run_id)
    num_outputs = num_failed = 0
    for index, rows in enumerate(tables):
        store.put(keys.manifest_file(index), parquet(rows))
        failed = int(pc.sum(pc.equal(rows["status"], "failed")).as_py() or 0)
        num_failed += failed
        num_outputs += rows.num_rows - failed
    known: dict[str, Any] = {
        "run_id": run_id,
        "source": "elsewhere",
        "destination": store.uri,
        "num_failed": num_failed,
        "num_outputs": num_outputs,
        "failures": {},
    }
    report = Report(**{field.name: known.get(field.name, 0) for field in fields(Report)})
    store.put(keys.request, b"{}")
    store.put(keys.report, report.to_json())
    store.put(keys.success, b"")


def parquet(rows: pa.Table) -> bytes:
    """Return a file of a manifest."""
    buffer = io.BytesIO()
    pq.write_table(
        rows, buffer, row_group_size=ROWS_PER_GROUP, compression="zstd", write_page_checksum=True
    )
    return buffer.getvalue()


def source_keys(labels: Sequence[str], per_label: int) -> Iterator[str]:
    """Yield keys in the order in which runs do them."""
    for label in sorted(labels):
        yield from (f"{label}/{i:07d}.jpg" for i in range(per_label))


def _parent(node: str) -> str:
    return node[:-1] or "root"


def _constants(run_id: str, created_at: datetime) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "recipe_digest": "0123456789abcdef",
        "source_root": "elsewhere",
        "source_etag": "etag",
        "depth": 0,
        "seed": 0,
        "shard": 0,
        "kaleidoscope_version": "0",
        "opencv_version": "0",
        "numpy_version": "0",
        "created_at": created_at,
    }
