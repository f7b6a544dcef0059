"""Tables written and read back, and what happens to those that were damaged."""

import io
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope import manifest
from kaleidoscope.errors import ManifestError
from kaleidoscope.manifest import (
    SCHEMA,
    PartWriter,
    Record,
    RunFacts,
    ShardStats,
    SourceFacts,
    failed_sources,
    merge_parts,
    read_shard_facts,
    read_stats,
    sources_from_parquet,
    sources_to_parquet,
)
from kaleidoscope.model import ObjectInfo, PlannedSource

RUN = RunFacts(
    run_id="20261122-run",
    recipe_digest="0123456789abcdef",
    source_root="s3://bucket/in",
    seed=2**53 - 1,
    shard=42,
    flow_run_id=None,
    kaleidoscope_version="0.1.0",
    opencv_version="5.0.0",
    numpy_version="2.4.0",
    created_at=datetime(2026, 11, 22, 9, 30, 15, 123456, tzinfo=UTC),
)
SOURCE = SourceFacts(
    source_id="00112233aabbccdd",
    source_key="dogs/rex.jpg",
    source_etag="etag",
    source_version_id=None,
    label="dogs",
    source_sha256="ff" * 32,
    source_width=4000,
    source_height=3000,
    source_format="jpeg",
    source_mode="RGB",
)
STATS = ShardStats(
    num_sources=3,
    num_failed=1,
    num_outputs=128,
    source_bytes=3 * 2**40,
    output_bytes=12345,
    wall_s=1.25,
    errors={"CodecError": 1},
)


def make_record(number: int = 0, **values: Any) -> Record:
    return Record(
        **{
            "source": SOURCE,
            "output_id": f"{SOURCE.source_id}-{number}",
            "node": "ac",
            "status": "ok",
            "depth": 2,
            "params": '{"angle_deg":1.5}',
            "size": 2**40,
            **values,
        }
    )


FAILED = make_record(
    source=SourceFacts("ffee", "cats/torn.jpg", "etag", "v1", "cats"),
    status="failed",
    error_type="CodecError",
    error_message="not an image\nat all",
)


def make_part(records: list[Record], stats: ShardStats = STATS) -> bytes:
    writer = PartWriter(RUN)
    writer.write(records)
    return writer.finish(stats)


def read_rows(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def output_ids(data: bytes) -> list[str]:
    return [row["output_id"] for row in read_rows(data)]


def group_lengths(data: bytes) -> list[int]:
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]


def expected_row(record: Record) -> dict[str, Any]:
    row = {**asdict(RUN), **asdict(record), **asdict(record.source)}
    del row["source"]
    return row


_STRINGS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_OPTIONAL = {
    "parent_id": _STRINGS,
    "op": _STRINGS,
    "ops": _STRINGS,
    "split": _STRINGS,
    "output_key": _STRINGS,
    "error_message": _STRINGS,
    "offset": st.none() | st.integers(0, 2**63 - 1),
    "size": st.none() | st.integers(0, 2**63 - 1),
    "width": st.none() | st.integers(1, 2**31 - 1),
    "depth": st.integers(0, 26),
    "status": st.sampled_from(["ok", "failed"]),
}


@given(st.lists(st.fixed_dictionaries({}, optional=_OPTIONAL), max_size=8))
def test_rows_are_the_records_that_were_written(values: list[dict[str, Any]]) -> None:
    records = [make_record(number, **each) for number, each in enumerate(values)]
    part = make_part(records)
    assert read_rows(part) == [expected_row(record) for record in records]
    assert pq.read_schema(io.BytesIO(part)).equals(SCHEMA)
    assert pq.read_schema(io.BytesIO(part)).remove_metadata().equals(SCHEMA, check_metadata=True)


def test_every_column_comes_from_one_place() -> None:
    columns = [f.name for kind in (RunFacts, SourceFacts, Record) for f in fields(kind)]
    columns.remove("source")
    assert sorted(columns) == sorted(SCHEMA.names)


def test_columns_may_be_null_where_a_field_may_be_none() -> None:
    may_be_none = {
        f.name
        for kind in (RunFacts, SourceFacts, Record)
        for f in fields(kind)
        if "None" in str(f.type)
    }
    assert {column.name for column in SCHEMA if column.nullable} == may_be_none


@pytest.mark.parametrize("stats", [STATS, ShardStats()])
def test_statistics_can_be_read_back(stats: ShardStats) -> None:
    assert read_stats(make_part([], stats)) == stats


def test_statistics_add_up() -> None:
    other = ShardStats(num_sources=1, wall_s=0.5, errors={"CodecError": 2, "TransformError": 1})
    assert ShardStats.total([STATS, other]) == ShardStats(
        num_sources=4,
        num_failed=1,
        num_outputs=128,
        source_bytes=3 * 2**40,
        output_bytes=12345,
        wall_s=1.75,
        errors={"CodecError": 3, "TransformError": 1},
    )
    assert ShardStats.total([]) == ShardStats()


@pytest.mark.parametrize("at_once", [1, 3, 10, 35])
def test_a_part_holds_no_more_rows_than_a_group_back(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "ROWS_HELD", 10)
    writer = PartWriter(RUN)
    records = [make_record(number) for number in range(35)]
    for start in range(0, 35, at_once):
        writer.write(records[start : start + at_once])
    part = writer.finish(STATS)
    assert output_ids(part) == [record.output_id for record in records]
    assert group_lengths(part) == [10, 10, 10, 5]


def test_the_same_records_make_the_same_bytes() -> None:
    records = [make_record(number) for number in range(50)]
    assert make_part(records) == make_part(records)


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 8), st.integers(1, 20))
def test_a_merge_keeps_every_row_in_order(
    lengths: list[int], rows_per_group: int, rows_per_file: int
) -> None:
    numbers = itertools.count()
    parts = [make_part([make_record(next(numbers)) for _ in range(n)]) for n in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROWS_PER_GROUP", rows_per_group)
        patch.setattr(manifest, "ROWS_PER_FILE", rows_per_file)
        files = list(merge_parts(parts))
    assert list(map(row_of, itertools.chain.from_iterable(map(read_rows, files)))) == list(
        map(row_of, itertools.chain.from_iterable(map(read_rows, parts)))
    )
    *full, last = [len(read_rows(file)) for file in files]
    assert all(rows_per_file <= length < rows_per_file + 2 * rows_per_group for length in full)
    assert min(1, sum(lengths)) <= last < rows_per_file + 2 * rows_per_group
    for file in files:
        assert pq.read_schema(io.BytesIO(file)).equals(SCHEMA)
        assert max(group_lengths(file)) < 2 * rows_per_group


def row_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.values())


def test_small_parts_share_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ROWS_PER_GROUP", 10)
    (file,) = merge_parts([make_part([make_record()])] * 25)
    assert group_lengths(file) == [10, 10, 5]


def test_a_merge_asks_for_a_part_when_it_is_done_with_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifest, "ROWS_PER_GROUP", 5)
    monkeypatch.setattr(manifest, "ROWS_PER_FILE", 10)
    part = make_part([make_record(number) for number in range(5)])
    asked: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(10):
            asked.append(number)
            yield part

    files = merge_parts(parts())
    assert asked == []
    next(files)
    assert asked == [0, 1]
    next(files)
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("parts", [[], [make_part([])]])
def test_parts_without_rows_merge_to_a_file_without_rows(parts: list[bytes]) -> None:
    (merged,) = merge_parts(parts)
    assert read_rows(merged) == []


def test_failed_sources_are_found() -> None:
    (merged,) = merge_parts([make_part([make_record(), FAILED, make_record(1)])])
    assert failed_sources(merged) == {"cats/torn.jpg": FAILED.source.source_sha256}
    assert failed_sources(make_part([make_record()])) == {}


def without(data: bytes, *names: str) -> bytes:
    """Return a file as a release would have written it that did not know some columns."""
    table = pq.read_table(io.BytesIO(data)).drop_columns([*names])
    told = pq.read_metadata(io.BytesIO(data)).metadata or {}
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({k: v for k, v in told.items() if k != b"ARROW:schema"})
    return buffer.getvalue()


def test_columns_that_were_added_since_are_null() -> None:
    part = make_part([make_record(0, objects="{}"), FAILED])
    old = without(part, "objects", "source_sha256", "flow_run_id")
    assert read_stats(old) == STATS
    assert read_shard_facts(old) == read_shard_facts(part)
    assert failed_sources(old) == {"cats/torn.jpg": None}
    (merged,) = merge_parts([old, part])
    assert pq.read_schema(io.BytesIO(merged)).equals(SCHEMA)
    rows, kept = read_rows(merged), read_rows(part)
    assert rows[2:] == kept
    assert rows[:2] == [{**row, "objects": None, "source_sha256": None} for row in kept]


def test_a_plan_of_before_there_were_labels_can_be_read() -> None:
    sources = (PlannedSource(ObjectInfo("a", 1, "e"), frozenset({"root"})),)
    assert sources_from_parquet(without(sources_to_parquet(sources), "labels", "made")) == sources


@pytest.mark.parametrize("name", [field.name for field in SCHEMA if not field.nullable])
def test_a_part_without_a_column_that_every_row_has_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="other columns than expected"):
        read_stats(without(make_part([make_record()]), name))


def unfinished_part() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([], schema=SCHEMA), buffer)
    return buffer.getvalue()


def part_of_another_release() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"output_id": ["a"]}), buffer)
    return buffer.getvalue()


def part_with_statistics(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, SCHEMA) as writer:
        writer.add_key_value_metadata({b"kaleidoscope.shard": text})
    return buffer.getvalue()


PART = make_part([make_record(number) for number in range(200)])
NO_PARTS = [
    pytest.param(b"", "not a whole parquet file", id="empty"),
    pytest.param(b"PAR1", "not a whole parquet file", id="magic"),
    pytest.param(b"<html>503</html>" * 9, "not a whole parquet file", id="html"),
    pytest.param(PART[:-1], "not a whole parquet file", id="cut-footer"),
    pytest.param(PART[: len(PART) // 2], "not a whole parquet file", id="cut-half"),
    pytest.param(
        PART[:-10_000] + PART[-10_000:].replace(b"output_id", b"output\xffid"),
        "not a whole parquet file",
        id="names",
    ),
    pytest.param(unfinished_part(), "not finished by a shard", id="unfinished"),
    pytest.param(part_of_another_release(), "other columns than expected", id="columns"),
    pytest.param(part_with_statistics(b"{"), "statistics are damaged", id="statistics-cut"),
    pytest.param(part_with_statistics(b"[]"), "statistics are damaged", id="statistics-list"),
    pytest.param(part_with_statistics(b'{"x":1}'), "statistics are damaged", id="statistics-x"),
    pytest.param(
        sources_to_parquet([PlannedSource(ObjectInfo("a", 1, "e"))]),
        "other columns than expected",
        id="plan",
    ),
]


@pytest.mark.parametrize(("data", "message"), NO_PARTS)
def test_what_is_no_part_is_a_manifest_error(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_stats(data)
    with pytest.raises(ManifestError, match=message):
        list(merge_parts([PART, data]))


def merge(data: bytes) -> object:
    return [read_rows(file) for file in merge_parts([data])]


PLAN = sources_to_parquet(
    [PlannedSource(ObjectInfo(f"{n:09}.jpg", n, f"{n:032x}")) for n in range(300)]
)


@pytest.mark.parametrize(
    ("whole", "read"), [(PART, merge), (PLAN, sources_from_parquet)], ids=["part", "plan"]
)
def test_a_flipped_bit_of_the_rows_is_found_or_harmless(
    whole: bytes, read: Callable[[bytes], object]
) -> None:
    expected, num_found = read(whole), 0
    for damaged in flip_bits(whole, start=4, end=footer_of(whole)):
        try:
            # A page's header has statistics that no reader here uses.
            assert read(damaged) == expected
        except ManifestError:
            num_found += 1
    assert num_found > NUM_FLIPS / 2


@pytest.mark.parametrize(
    ("whole", "read"), [(PART, merge), (PLAN, sources_from_parquet)], ids=["part", "plan"]
)
def test_a_flipped_bit_of_the_footer_is_no_other_error(
    whole: bytes, read: Callable[[bytes], object]
) -> None:
    num_found = 0
    for damaged in flip_bits(whole, start=footer_of(whole), end=len(whole)):
        try:
            read(damaged)
        except ManifestError:
            num_found += 1
    assert num_found > 0


NUM_FLIPS = 80


def flip_bits(whole: bytes, *, start: int, end: int) -> Iterator[bytes]:
    rng = random.Random(0)  # noqa: S311 -- which bits are flipped is no secret.
    for _ in range(NUM_FLIPS):
        data = bytearray(whole)
        data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
        yield bytes(data)


def footer_of(whole: bytes) -> int:
    """Where the footer starts: its length stands before the closing magic number."""
    return len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")


_NODES = st.frozensets(st.text("abc123", min_size=1))
_SOURCES = st.builds(
    PlannedSource,
    info=st.builds(
        ObjectInfo,
        key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        size=st.integers(0, 2**63 - 1),
        etag=st.text(st.characters(exclude_categories=["Cs"])),
        version_id=_STRINGS,
    ),
    nodes=st.none() | _NODES,
    made=_NODES,
    made_sha256=_STRINGS,
)


@given(st.lists(_SOURCES, max_size=10))
def test_a_shard_of_a_plan_can_be_read_back(sources: list[PlannedSource]) -> None:
    assert sources_from_parquet(sources_to_parquet(sources)) == tuple(sources)


@pytest.mark.parametrize("data", [b"", b"PAR1", PLAN[:-10], PART, make_part([])])
def test_what_is_no_shard_of_a_plan_is_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        sources_from_parquet(data)


@pytest.mark.parametrize("data", [b"", PLAN, PART[:-1]])
def test_what_is_no_manifest_has_no_failed_sources(data: bytes) -> None:
    with pytest.raises(ManifestError):
        failed_sources(data)
