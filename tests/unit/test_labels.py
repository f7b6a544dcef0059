"""Labels and attributes of a table go with the sources that it names, and with no other."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaleidoscope.errors import PlanError, RecipeError
from kaleidoscope.labels import find_labels, load_labels
from kaleidoscope.listing import SourceListing
from kaleidoscope.recipe import Recipe, Targets
from kaleidoscope.runs import list_runs
from tests import data_sets, image_files
from tests.data_sets import NOW, Place

DAY = timedelta(days=1)
KEYS = ("cats/0.jpg", "cats/1.jpg", "flat.jpg")
ONE = image_files.opencv(".jpg", image_files.picture(30, 41))
IMAGES = dict.fromkeys(KEYS, ONE)


def recipe(key: str = "labels.csv", **fields: Any) -> Any:
    return data_sets.recipe(steps=2, side=16, targets={"labels": key}, **fields)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return data_sets.local(tmp_path, IMAGES)


def write(place: Place, table: str, key: str = "labels.csv") -> None:
    place.source.put(key, table.encode())


def load(place: Place, key: str = "labels.csv") -> dict[str, tuple[str | None, Any]]:
    labels = load_labels(place.source, Targets(labels=key), SourceListing(place.source))
    found = {name: labels.of(name) for name in KEYS}
    return {
        name: (labels.label_of(name), row and row.attributes and json.loads(row.attributes))
        for name, row in found.items()
    }


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


ROWS: list[dict[str, Any]] = [
    {"file_name": "cats/0.jpg", "label": "tom", "age": "07", "note": 'says "miau", loud'},
    {"file_name": "flat.jpg", "label": None, "age": None, "note": None},
]
WANTED = {
    "cats/0.jpg": ("tom", {"age": "07", "note": 'says "miau", loud'}),
    "cats/1.jpg": (None, None),
    "flat.jpg": (None, None),
}
TABLES = {
    "labels.csv": (
        b"\xef\xbb\xbffile_name,label,age,note\r\n"
        b'cats/0.jpg,tom,07,"says ""miau"", loud"\r\n\r\nflat.jpg,,,\r\n'
    ),
    "labels.parquet": as_parquet(ROWS),
    "meta/labels.jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
}


@pytest.mark.parametrize("key", TABLES)
def test_every_kind_of_table_says_the_same(place: Place, key: str) -> None:
    place.source.put(key, TABLES[key])
    assert load(place, key) == WANTED


def test_a_table_without_a_label_leaves_labels_to_the_folders(place: Place) -> None:
    write(place, "file_name,age\ncats/0.jpg,7\n")
    assert load(place) == {
        "cats/0.jpg": ("cats", {"age": "7"}),
        "cats/1.jpg": ("cats", None),
        "flat.jpg": (None, None),
    }


def test_types_of_parquet_come_as_json_has_them(place: Place) -> None:
    row = {"file_name": "flat.jpg", "label": 3, "n": 1, "x": float("nan"), "day": date(2026, 1, 2)}
    place.source.put("labels.parquet", as_parquet([row]))
    assert load(place, "labels.parquet")["flat.jpg"] == ("3", {"n": 1, "day": "2026-01-02"})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name,label\ncats/0.jpg,a\ncats/0.jpg,a\n", r"1 sources more than once \(cats/0"),
        ("file_name,label\ncats/9.jpg,a\nflat.jpg,b\n", r"1 of 2 sources .*\(cats/9.jpg\)"),
        ("name,label\ncats/0.jpg,a\n", "row 1 must name a source in file_name, got None"),
        ("file_name,label\ncats/0.jpg\n", "line 2 has 1 cells and the header 2"),
        ("file_name,label,label\n", "a column stands twice"),
        ('file_name,label\n"cats/0.jpg,a\nflat.jpg,b\n', "cannot be read"),
        ("file_name,label\n", "hold no row"),
        ("", "hold no row"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_made(
    place: Place, table: str, message: str
) -> None:
    write(place, table)
    with pytest.raises(PlanError, match=message):
        place.start(recipe())
    assert not list_runs(place.destination)


@pytest.mark.parametrize(
    ("key", "data", "message"),
    [
        ("labels.csv", b"\xff\xfe", "cannot be read: 'utf-8'"),
        ("labels.parquet", b"PAR1", "cannot be read"),
        ("labels.jsonl", b"[1]", "line 1 must be a JSON object"),
        ("labels.jsonl", b'{"file_name": ', "cannot be read"),
        ("labels.jsonl", b'{"file_name": "flat.jpg", "label": 0.5}', "text or a whole number"),
        ("labels.jsonl", b'{"file_name": 5}', "must name a source in file_name, got 5"),
    ],
)
def test_a_damaged_table_is_refused(place: Place, key: str, data: bytes, message: str) -> None:
    place.source.put(key, data)
    with pytest.raises(PlanError, match=message):
        load(place, key)


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ("file_name", {"file_name": "caf\ud83d.jpg"}),
        ("label", {"label": "caf\ud83d"}),
        ("attributes", {"note": "caf\ud83d"}),
        ("objects", {"objects": {"bbox": [[0, 0, 1, 1]], "categories": ["caf\ud83d"]}}),
    ],
)
def test_text_that_no_record_can_hold_is_refused_with_its_row(
    place: Place, column: str, row: dict[str, Any]
) -> None:
    boxes, objects = ("coco", {"objects": None}) if column == "objects" else (None, {})
    rows = ({"file_name": "flat.jpg", **objects}, {"file_name": "cats/0.jpg", **row})
    place.source.put("labels.jsonl", "\n".join(map(json.dumps, rows)).encode())
    targets = Targets.model_validate({"labels": "labels.jsonl", "boxes": boxes})
    with pytest.raises(PlanError, match=rf"labels\.jsonl: row 2 .* in {column}, .*caf\\ud83d.*"):
        load_labels(place.source, targets, SourceListing(place.source))


@pytest.mark.parametrize("column", [" label", "Label", "labels"])
def test_a_column_that_is_nearly_the_label_is_refused(place: Place, column: str) -> None:
    write(place, f"file_name,{column}\ncats/0.jpg,cat\n")
    with pytest.raises(PlanError, match=f"a column '{column}'; call it 'label'"):
        load(place)


def test_blanks_around_a_label_make_no_class_of_their_own(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,cat \ncats/1.jpg,cat\nflat.jpg,  \n")
    assert [label for label, _ in load(place).values()] == ["cat", "cat", None]


def test_a_number_that_json_does_not_have_is_refused(place: Place) -> None:
    write(place, '{"file_name": "flat.jpg", "scores": [NaN]}', "labels.jsonl")
    with pytest.raises(PlanError, match="JSON"):
        load(place, "labels.jsonl")


def test_a_table_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(PlanError, match=r"labels.csv are not there; check targets.labels"):
        place.start(recipe())


def test_of_many_wrong_names_a_few_are_shown(place: Place) -> None:
    write(place, "\n".join(["file_name", *(f"x{n}.jpg" for n in range(9))]))
    with pytest.raises(PlanError, match=r"9 of 9 sources .*\(x0.*x4.jpg, …\)"):
        load(place)


def test_a_key_of_no_table_is_refused_by_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"targets.labels"):
        recipe("labels.xlsx")


def by_source(place: Place) -> Mapping[str, set[tuple[Any, Any]]]:
    rows = place.rows()[["source_key", "label", "attributes"]].astype(object)
    found: dict[str, set[tuple[Any, Any]]] = {}
    for key, *pair in rows.where(rows.notna(), None).itertuples(index=False):
        found.setdefault(key, set()).add((pair[0], pair[1]))
    return found


def test_every_row_of_a_source_has_its_label_and_attributes(place: Place) -> None:
    write(place, "file_name,label,age\ncats/0.jpg,tom,7\nflat.jpg,kim,8\n")
    report = place.run(recipe())
    assert report.num_outputs == 3 * 4
    assert by_source(place) == {
        "cats/0.jpg": {("tom", '{"age":"7"}')},
        "cats/1.jpg": {(None, None)},
        "flat.jpg": {("kim", '{"age":"8"}')},
    }


def test_a_source_that_fails_keeps_its_label(place: Place) -> None:
    place.source.put("flat.jpg", b"no image")
    write(place, "file_name,label\nflat.jpg,kim\n")
    place.run(recipe(limits={"max_error_rate": 1.0}))
    rows = place.rows()
    assert list(rows[rows["status"] == "failed"]["label"]) == ["kim"]


def test_a_source_whose_row_changes_is_made_again_and_no_other(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,tom\ncats/1.jpg,kim\n")
    place.run(recipe())
    before = data_sets.outputs(place)
    assert place.run(recipe(), now=NOW + DAY).num_sources == 3  # Nothing to do: the same report.
    write(place, "file_name,label\ncats/0.jpg,tom\ncats/1.jpg,eva\n")
    report = place.run(recipe(), now=NOW + 2 * DAY)
    assert (report.num_sources, report.num_done, report.num_outputs) == (1, 2, 4)
    assert data_sets.outputs(place) == before
    assert by_source(place) == {
        "cats/0.jpg": {("tom", None)},
        "cats/1.jpg": {("eva", None)},
        "flat.jpg": {(None, None)},
    }
    data_sets.check_whole(place)
    assert len(list_runs(place.destination)) == 2


def test_a_source_that_was_written_again_as_it_was_takes_its_new_label(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,tom\n")
    place.run(recipe())
    write(place, "file_name,label\ncats/0.jpg,eva\n")
    etag = place.source.head("cats/0.jpg").etag
    place.source.put("cats/0.jpg", b"something else")
    place.source.put("cats/0.jpg", IMAGES["cats/0.jpg"])
    assert place.source.head("cats/0.jpg").etag != etag
    report = place.run(recipe(), now=NOW + DAY)
    assert (report.num_sources, report.num_outputs) == (1, 4)
    assert by_source(place)["cats/0.jpg"] == {("eva", None)}


def test_labels_do_not_change_a_pixel(tmp_path: Path) -> None:
    plain = data_sets.local(tmp_path / "plain", IMAGES)
    plain.run(data_sets.recipe(steps=2, side=16))
    labelled = data_sets.local(tmp_path / "labelled", IMAGES)
    write(labelled, "file_name,label\ncats/0.jpg,tom\n")
    labelled.run(recipe())
    assert data_sets.outputs(labelled) == data_sets.outputs(plain)


def test_classes_of_the_table_are_balanced(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,a\ncats/1.jpg,b\nflat.jpg,b\n")
    place.run(recipe(balance={"images_per_class": 4}))
    assert place.rows()["label"].value_counts().to_dict() == {"a": 4, "b": 4}


def described(place: Place, tar_key: str) -> list[dict[str, Any]]:
    with tarfile.open(fileobj=io.BytesIO(place.destination.get(tar_key).data)) as tar:
        files = [tar.extractfile(name) for name in tar.getnames() if name.endswith(".json")]
        return [json.load(file) for file in files if file is not None]


def test_a_tar_tells_the_attributes_beside_the_label(place: Place) -> None:
    write(place, "file_name,label,age\nflat.jpg,kim,8\n")
    place.run(recipe(output={"container": "webdataset"}))
    documents = [document for key in place.output_keys() for document in described(place, key)]
    told = {(d["source_key"], d["label"], str(d.get("attributes"))) for d in documents}
    assert told == {
        ("cats/0.jpg", None, "None"),
        ("cats/1.jpg", None, "None"),
        ("flat.jpg", "kim", "{'age': '8'}"),
    }


def test_the_label_of_one_source_is_found_without_a_look_at_the_others(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,left\nnowhere.jpg,right\n")
    table = Targets(labels="labels.csv")
    assert find_labels(place.source, table, "cats/0.jpg").label == "left"
    assert find_labels(place.source, table, "cats/1.jpg").label is None
    assert find_labels(place.source, None, "cats/1.jpg").label == "cats"
    with pytest.raises(PlanError, match=r"other\.csv are not there"):
        find_labels(place.source, Targets(labels="other.csv"), "cats/0.jpg")


FLIPS: dict[str, Any] = {
    "transforms": ["Contrast", {"name": "Rotate", "copies": 2, "not_for": ["left"]}]
}


def flips(**fields: Any) -> Recipe:
    return Recipe.from_mapping(
        {**FLIPS, "normalize": {"side": 16}, "targets": {"labels": "labels.csv"}, **fields}
    )


def nodes_of(place: Place) -> dict[str, set[str]]:
    return {str(key): set(nodes) for key, nodes in place.rows().groupby("source_key")["node"]}


def folders(steps: Sequence[Any], **fields: Any) -> Recipe:
    return Recipe.from_mapping({"transforms": steps, "normalize": {"side": 16}, **fields})


def test_a_step_is_not_for_some_labels(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,left\nflat.jpg,right\n")
    every_node = {"root", "a", "b1", "b2", "ab1", "ab2"}
    planned = place.start(flips()).plan.num_outputs
    assert place.run(flips()).num_outputs == planned == 2 + 6 + 6
    wanted = {"cats/0.jpg": {"root", "a"}, "cats/1.jpg": every_node, "flat.jpg": every_node}
    assert nodes_of(place) == wanted
    place.run(flips(), now=NOW + DAY)
    assert len(list_runs(place.destination)) == 1
    appended = {"transforms": [*FLIPS["transforms"], "ToGray"]}
    place.run(flips(**appended), now=NOW + DAY)
    assert nodes_of(place)["cats/0.jpg"] == {"root", "a", "c", "ac"}
    data_sets.check_whole(place)


def test_a_folder_is_a_label_that_a_step_may_not_be_for(place: Place) -> None:
    steps = [{"name": "HorizontalFlip", "not_for": ["cats"]}]
    place.run(folders(steps))
    roots = {"cats/0.jpg": {"root"}, "cats/1.jpg": {"root"}}
    assert nodes_of(place) == {**roots, "flat.jpg": {"root", "a"}}


def test_a_label_that_no_source_has_forbids_nothing_in_silence(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,lefft\n")
    with pytest.raises(PlanError, match=r"labels that no source has \(left\)"):
        place.start(flips())
    assert not list_runs(place.destination)


def test_a_recipe_that_is_for_no_source_at_all_is_refused(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"cats/0.jpg": ONE})
    none = folders(
        [{"name": "HorizontalFlip", "not_for": ["cats"]}], select={"keep_original": False}
    )
    with pytest.raises(PlanError, match=r"of any of the 1 sources .*: not_for forbids all"):
        place.start(none)
    assert not list_runs(place.destination)
    place.source.put("dogs/0.jpg", ONE)
    assert place.run(none).num_outputs == 1


def test_a_label_that_a_step_is_not_for_may_lose_its_sources(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {f"{name}/0.jpg": ONE for name in ("cats", "dogs")})
    steps: list[Any] = ["Rotate", {"name": "HorizontalFlip", "not_for": ["dogs"]}]
    place.run(folders(steps))
    place.source.delete(["dogs/0.jpg"])
    place.source.put("fish/0.jpg", ONE)
    retry = replace(data_sets.MANY_SHARDS, retry_failed=True)
    assert place.start(folders(steps), retry, now=NOW + DAY).plan.num_gone == 1
    assert place.run(folders(steps), now=NOW + DAY).num_outputs == 4
    typo = [*steps, {"name": "ToGray", "not_for": ["dogs", "fsh"]}]
    with pytest.raises(PlanError, match=r"labels that no source has \(fsh\)"):
        place.start(folders(typo), now=NOW + 2 * DAY)


def test_a_source_with_images_that_its_new_label_forbids_is_refused(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,right\n")
    place.run(flips())
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,left\n")
    with pytest.raises(PlanError, match=r"cats/1.jpg is labelled 'left' now, .*\(ab1, for one\)"):
        place.start(flips(), now=NOW + DAY)


def test_a_source_that_could_not_be_read_takes_any_new_label(place: Place) -> None:
    place.source.put("cats/1.jpg", b"no image")
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,right\n")
    place.run(flips())
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,left\n")
    place.source.put("cats/1.jpg", ONE)
    assert place.run(flips(), now=NOW + DAY).num_outputs == 2
    assert nodes_of(place)["cats/1.jpg"] == {"root", "a"}
    data_sets.check_whole(place)


def test_a_sample_is_drawn_of_the_nodes_that_a_label_allows(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,right\n")
    sampled = flips(select={"max_outputs_per_source": 4})
    planned = place.start(sampled).plan.num_outputs
    assert place.run(sampled).num_outputs == planned == 2 + 4 + 4
    nodes = nodes_of(place)
    assert nodes["cats/0.jpg"] == {"root", "a"}
    assert {len(nodes["cats/1.jpg"]), len(nodes["flat.jpg"])} == {4}
    place.source.put("new.jpg", image_files.opencv(".jpg", image_files.picture(33, 40)))
    assert place.run(sampled, now=NOW + DAY).num_outputs == 4
    assert nodes_of(place).items() > nodes.items()
    place.run(sampled, now=NOW + 2 * DAY)
    assert len(list_runs(place.destination)) == 2
    data_sets.check_whole(place)


def test_a_label_that_leaves_other_nodes_to_draw_from_is_refused(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,right\n")
    sampled = flips(select={"max_outputs_per_source": 2})
    place.run(sampled)
    write(place, "file_name,label\ncats/0.jpg,right\ncats/1.jpg,left\n")
    with pytest.raises(PlanError, match=r"cats/0.jpg is labelled 'right' now, .*another sample"):
        place.start(sampled, now=NOW + DAY)
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,up\n")
    before = data_sets.outputs(place)
    place.run(sampled, now=NOW + DAY)
    assert data_sets.outputs(place) == before
    assert set(place.rows().query("source_key == 'cats/1.jpg'")["label"]) == {"up"}


def test_a_class_is_filled_with_the_nodes_that_its_label_allows(place: Place) -> None:
    write(place, "file_name,label\ncats/0.jpg,left\ncats/1.jpg,right\nflat.jpg,right\n")
    balanced = flips(balance={"images_per_class": 5})
    planned = place.start(balanced).plan
    assert [(share.label, share.num_images, share.num_short) for share in planned.classes] == [
        ("left", 2, 3),
        ("right", 5, 0),
    ]
    assert place.run(balanced).num_outputs == planned.num_outputs == 7
    assert nodes_of(place)["cats/0.jpg"] == {"root", "a"}
    place.run(balanced, now=NOW + DAY)
    assert len(list_runs(place.destination)) == 1
    place.source.put("up/new.jpg", image_files.opencv(".jpg", image_files.picture(33, 40)))
    write(
        place,
        "file_name,label\ncats/0.jpg,left\ncats/1.jpg,right\nflat.jpg,right\nup/new.jpg,left\n",
    )
    assert place.run(balanced, now=NOW + DAY).num_outputs == 2
    assert nodes_of(place)["up/new.jpg"] == {"root", "a"}
    data_sets.check_whole(place)


def test_an_empty_not_for_leaves_the_digest() -> None:
    plain = Recipe.from_mapping({"transforms": ["HorizontalFlip"]})
    assert Recipe.from_mapping(plain.model_dump(mode="json")).digest == plain.digest
    forbidding = Recipe.from_mapping(
        {"transforms": [{"name": "HorizontalFlip", "not_for": ["left"]}]}
    )
    assert forbidding.digest != plain.digest
