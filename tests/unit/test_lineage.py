from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaleidoscope.errors import ManifestError, StoreError
from kaleidoscope.lineage import Lineage, read_manifest
from kaleidoscope.manifest import ROWS_PER_GROUP, SCHEMA
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.runs import RunKeys
from kaleidoscope.settings import Settings
from kaleidoscope.stores import LocalStore, S3Credentials, open_store
from tests import data_sets, image_files, manifests
from tests.data_sets import Place
from tests.faulty_stores import WatchedStore

RUN = "20261122T120000Z-0123abcd"
RECIPE = data_sets.recipe(steps=2, side=16)
DATA = image_files.opencv(".jpg", image_files.picture(51, 37))


class Ranges(LocalStore):
    """A folder that counts the bytes which are asked for."""

    size = 0

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        self.size += length
        return super().get_range(key, offset=offset, length=length)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return data_sets.run_twice(tmp_path_factory.mktemp("two runs"), RECIPE, DATA)


def test_a_manifest_has_all_columns_in_order_by_default(place: Place) -> None:
    rows = place.rows()
    assert list(rows.columns) == SCHEMA.names
    assert list(rows.index) == list(range(len(rows)))
    assert rows.groupby("source_key")["status"].agg(list).to_dict() == {
        "a.jpg": ["ok"] * 4,
        "b.jpg": ["ok"] * 4,
        "c.jpg": ["failed"],
    }


@pytest.mark.parametrize(
    "columns", [["output_key", "label"], ["status"], ["sha256", "output_id"], []]
)
def test_columns_that_are_asked_for_come_in_that_order(place: Place, columns: list[str]) -> None:
    rows = read_manifest(place.destination, columns=columns)
    assert list(rows.columns) == columns
    assert len(rows) == 9
    pd.testing.assert_frame_equal(rows, place.rows()[columns])


def test_whole_numbers_stay_whole_beside_missing_ones(place: Place) -> None:
    rows = place.rows()
    assert rows["width"].isna().any()
    assert list(rows["source_width"])[:4] == [51] * 4
    assert {str(rows[name].dtype) for name in ("width", "size", "depth")} == {
        "Int32",
        "Int64",
        "Int8",
    }


def test_an_unknown_column_is_refused_with_those_that_exist(place: Place) -> None:
    with pytest.raises(ManifestError, match=r"no columns \['colour'\].*'output_key'"):
        read_manifest(place.destination, columns=["output_key", "colour"])


def test_a_destination_without_a_committed_run_is_refused(tmp_path: Path) -> None:
    started = data_sets.local(tmp_path, {"a.jpg": DATA})
    for _ in range(2):
        with pytest.raises(ManifestError, match="no run is committed in"):
            started.rows()
        started.start(RECIPE)


def test_a_cut_missing_or_foreign_manifest_is_an_error_that_names_it(tmp_path: Path) -> None:
    damaged = data_sets.local(tmp_path, {"a.jpg": DATA})
    report = damaged.run(RECIPE, StartOptions())
    key = RunKeys(report.run_id).manifest_file(0)
    whole = damaged.destination.get(key).data
    flipped = bytearray(whole)
    for position in range(100, 164):  # Of the first pages; a header has bytes that nobody reads.
        flipped[position] ^= 0xFF
    foreign = LocalStore(tmp_path / "source").get("a.jpg").data
    for data in [whole[:0], whole[:50], whole[:-1], bytes(flipped), foreign]:
        damaged.destination.put(key, data)
        with pytest.raises(ManifestError, match="cannot be read") as caught:
            damaged.rows()
        assert key in str(caught.value)
    damaged.destination.delete([key])
    with pytest.raises(ManifestError, match="its manifest is missing"):
        damaged.rows()


def test_failed_sources_are_apart_from_outputs(place: Place) -> None:
    lineage = Lineage(place.destination)
    rows, failures = lineage.to_pandas(), lineage.failures(["source_key", "error_type"])
    assert set(rows["source_key"]) == {"a.jpg", "b.jpg"}
    assert failures.to_dict("list") == {"source_key": ["c.jpg"], "error_type": ["empty"]}
    assert len(rows) + len(failures) == len(place.rows())


def test_every_way_of_reading_gives_the_same_rows(place: Place) -> None:
    lineage = Lineage(place.destination)
    columns, wanted = ["output_key", "width"], [("source_key", "=", "b.jpg"), ("depth", ">", 0)]
    rows = lineage.to_pandas(columns, wanted)
    everything = lineage.to_pandas()
    expected = everything[(everything["source_key"] == "b.jpg") & (everything["depth"] > 0)]
    pd.testing.assert_frame_equal(rows, expected[columns].reset_index(drop=True))
    as_expression = (ds.field("source_key") == "b.jpg") & (ds.field("depth") > 0)
    pd.testing.assert_frame_equal(rows, lineage.to_pandas(columns, as_expression))
    scanned = pa.Table.from_batches(lineage.scan(columns, wanted)).to_pylist()
    assert scanned == rows.to_dict("records")
    dataset = lineage.to_dataset()
    assert dataset.to_table(columns=columns, filter=as_expression).to_pylist() == scanned
    assert dataset.count_rows() == len(everything)


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        (["colour"], None, "no columns"),
        (None, [("colour", "=", 1)], r"no columns \['colour'\]"),
        (None, [("depth", "=", "deep")], "does not fit the manifest"),
        (None, [("depth", "~", 1)], "a filter is a pyarrow expression or a list like"),
        (None, "depth = 1", "a filter is a pyarrow expression or a list like"),
    ],
)
def test_what_cannot_be_asked_for_is_a_clear_error(
    place: Place, columns: list[str] | None, wanted: Any, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        Lineage(place.destination).to_pandas(columns, wanted)


def test_one_class_of_many_rows_is_a_small_share_of_the_bytes(tmp_path: Path) -> None:
    keys = list(manifests.source_keys([f"class{i:02d}" for i in range(40)], 60))
    tables = [manifests.many_rows(some, run_id=RUN) for some in (keys[:1_500], keys[1_500:])]
    manifests.commit(LocalStore(tmp_path), RUN, tables)
    sizes = [path.stat().st_size for path in tmp_path.rglob("manifest-*.parquet")]
    store = Ranges(tmp_path)
    lineage = Lineage(store)
    rows = lineage.to_pandas(filter=[("label", "=", "class07")])
    assert len(rows) == 60 * 64
    assert len(keys) * 64 > 150_000
    assert store.size < 0.25 * sum(sizes)
    store.size = 0
    assert len(lineage.to_pandas(["output_key"], [("label", "=", "class07")])) == 60 * 64
    assert store.size < 0.05 * sum(sizes)
    # All that one output leads to lies in a row group or two.
    store.size = 0
    output = lineage.find(rows["output_key"].iloc[100])
    assert len(lineage.siblings(output)) == 63
    assert store.size < 0.35 * sum(sizes)


def test_a_scan_of_all_holds_a_few_row_groups_of_many(tmp_path: Path) -> None:
    keys = list(manifests.source_keys(["cat", "dog"], 2_000))
    rows = manifests.many_rows(keys, run_id=RUN)
    manifests.commit(LocalStore(tmp_path), RUN, [rows])
    size = rows.nbytes
    del rows
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in Lineage.open(tmp_path).scan()]
    assert len(held) >= 4_000 * 64 // ROWS_PER_GROUP
    assert max(held) < 0.6 * size


def test_a_manifest_is_read_from_s3_by_ranges(
    tmp_path: Path, s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    keys = list(manifests.source_keys(["cat", "dog"], 20))
    store = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    for where in [store, LocalStore(tmp_path)]:
        manifests.commit(where, RUN, [manifests.many_rows(keys, run_id=RUN)])
    wanted = [("label", "=", "dog"), ("op", "=", "OpC")]
    columns = ["output_key", "sha256", "width"]
    rows = Lineage(store).to_pandas(columns, wanted)
    pd.testing.assert_frame_equal(rows, Lineage.open(tmp_path).to_pandas(columns, wanted))
    assert len(rows) == 20 * 4


made = st.builds(
    lambda content, nodes, failed: (
        manifests.Made("", content, nodes, failed if failed not in nodes else None)
        if content and nodes
        else manifests.Made("", None, (), "root")
    ),
    st.sampled_from(["one", "two", None]),
    st.sets(st.sampled_from(["root", "a", "b", "ab"])).map(lambda nodes: tuple(sorted(nodes))),
    st.sampled_from(["a", "ab", None]),
)
histories = st.lists(
    st.dictionaries(st.sampled_from(["x/1.jpg", "x/2.jpg", "y/3.jpg"]), made, min_size=1),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(histories)
def test_of_several_runs_the_rows_of_the_newest_content_stand(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, manifests.Made]]
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("history"))
    for day, sources in enumerate(history):
        run_id = f"2026110{day}T000000Z-0123abcd"
        rows = [replace(sources[key], source_key=key) for key in sorted(sources)]
        began = manifests.BEGAN + timedelta(days=day)
        manifests.commit(store, run_id, [manifests.table(rows, run_id=run_id, created_at=began)])
    found = read_manifest(store, columns=["source_key", "node", "status", "run_id"])
    assert sorted(found.itertuples(index=False, name=None)) == sorted(standing(history))


def standing(history: list[dict[str, manifests.Made]]) -> Iterator[tuple[str, str, str, str]]:
    """The law, row by row."""
    for key in {key for sources in history for key in sources}:
        runs = [(day, run[key]) for day, run in enumerate(history) if key in run]
        newest = runs[-1][1]
        for position, (day, run) in enumerate(runs):
            later = [other for _, other in runs[position + 1 :]]
            again = {node for other in later for node in (*other.nodes, other.failed)}
            if run.content != newest.content:
                continue
            run_id = f"2026110{day}T000000Z-0123abcd"
            for node in run.nodes:
                if node not in again:
                    yield key, node, "ok", run_id
            if run.failed and run.failed not in again and not any(o.failed for o in later):
                yield key, run.failed, "failed", run_id


def test_a_run_that_only_adds_nodes_leaves_those_of_before(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for day, nodes in enumerate([("root", "a"), ("b", "ab")]):
        run_id = f"2026110{day}T000000Z-0123abcd"
        rows = [manifests.Made("x/1.jpg", "one", nodes)]
        manifests.commit(store, run_id, [manifests.table(rows, run_id=run_id)])
    lineage = Lineage(store)
    assert list(lineage.to_pandas()["node"]) == ["root", "a", "b", "ab"]
    only_first = Lineage(store, runs=lineage.runs[:1])
    assert list(only_first.to_pandas()["node"]) == ["root", "a"]
    with pytest.raises(ManifestError, match=r"no runs \['yesterday'\] are committed"):
        Lineage(store, runs=["yesterday"])


def test_runs_that_overlapped_and_disagree_are_refused_until_one_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    day = timedelta(days=1)
    for run_id, content, moments in [
        ("20261101T000000Z-0123abcd", "one", (0, 2)),
        ("20261102T000000Z-0123abcd", "two", (1, 3)),
    ]:
        tables = [
            manifests.table([source], run_id=run_id, created_at=manifests.BEGAN + moment * day)
            for source, moment in zip(
                [
                    manifests.Made("x/1.jpg", content, ("root", "a")),
                    manifests.Made(f"y/{content}.jpg", "same", ("root", "a")),
                ],
                moments,
                strict=True,
            )
        ]
        manifests.commit(store, run_id, [pa.concat_tables(tables)])
    lineage = Lineage(store)
    with pytest.raises(ManifestError, match="ran at the same time and both wrote outputs of"):
        lineage.to_pandas()
    for run_id in lineage.runs:
        assert len(Lineage(store, runs=[run_id]).to_pandas()) == 4
    third = "20261105T000000Z-0123abcd"
    again = [manifests.Made("x/1.jpg", "three", ("root", "a"))]
    began = manifests.BEGAN + 5 * day
    manifests.commit(store, third, [manifests.table(again, run_id=third, created_at=began)])
    assert len(Lineage(store).to_pandas()) == 6


def test_a_store_that_goes_down_is_no_damage(tmp_path: Path) -> None:
    keys = list(manifests.source_keys(["cat"], 10))
    manifests.commit(LocalStore(tmp_path), RUN, [manifests.many_rows(keys, run_id=RUN)])
    is_down = False

    def stop(action: str, key: str) -> None:
        if is_down:
            raise StoreError(f"the store is down: {action} {key}")

    lineage = Lineage(WatchedStore(LocalStore(tmp_path), before=stop))
    assert len(lineage.to_pandas(["sha256"])) == 640
    is_down = True
    with pytest.raises(StoreError, match="the store is down: get "):
        lineage.to_pandas(["sha256"])


def test_a_manifest_that_lacks_a_file_or_has_one_too_many_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    keys = list(manifests.source_keys(["cat"], 30))
    tables = [manifests.many_rows(keys[i : i + 10], run_id=RUN) for i in (0, 10, 20)]
    manifests.commit(store, RUN, tables)
    assert len(Lineage(store).to_pandas(["label"])) == 30 * 64
    files = [RunKeys(RUN).manifest_file(index) for index in range(4)]
    last = store.get(files[2]).data
    store.put(files[3], last)
    with pytest.raises(ManifestError, match=r"has 2,560 rows in 4 files.*counts 1,920"):
        Lineage(store)
    store.delete(files[2:])
    with pytest.raises(ManifestError, match=r"has 1,280 rows in 2 files.*its last file deleted"):
        Lineage(store)
    store.put(files[2], last)
    store.delete(files[1:2])
    with pytest.raises(ManifestError, match=r"manifest-00001\.parquet is missing"):
        Lineage(store)


def test_a_file_that_is_damaged_behind_its_footer_is_named_when_it_is_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    keys = list(manifests.source_keys(["cat"], 10))
    manifests.commit(store, RUN, [manifests.many_rows(keys, run_id=RUN)])
    key = RunKeys(RUN).manifest_file(0)
    data = bytearray(store.get(key).data)
    data[len(data) // 3] ^= 0xFF
    store.put(key, bytes(data))
    lineage = Lineage(store)
    with pytest.raises(ManifestError, match=f"{key} cannot be read"):
        lineage.to_pandas()


def test_a_column_that_an_earlier_release_did_not_write_is_missing_in_each_row(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path)
    rows = manifests.many_rows(["cat/1.jpg"], run_id=RUN)
    manifests.commit(store, RUN, [rows.drop_columns(["tar_key"])])
    assert Lineage(store).to_pandas(["node", "tar_key"])["tar_key"].isna().all()
    for damaged in [rows.drop_columns(["source_id"]), as_text(rows, "depth")]:
        manifests.commit(store, RUN, [damaged])
        with pytest.raises(ManifestError, match="written by another version"):
            Lineage(store)


def as_text(rows: pa.Table, name: str) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(pa.string()))
