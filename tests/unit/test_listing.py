import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import PlanError
from kaleidoscope.listing import (
    IMAGE_EXTENSIONS,
    IN_DESTINATION,
    NOT_AN_IMAGE,
    RESERVED,
    UNUSABLE_KEY,
    SourceListing,
)
from kaleidoscope.model import ObjectInfo
from kaleidoscope.stores import LocalStore, SkipListener
from tests.faulty_stores import WatchedStore

FOLDER = LocalStore("/nowhere")


@dataclass(frozen=True)
class ListedStore(WatchedStore):
    """A store whose listing is given."""

    uri: str = "s3://bucket/photos"
    keys: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        assert prefix == ""
        assert on_skipped is not None
        for key, reason in self.broken:
            on_skipped(key, reason)
        return (ObjectInfo(key, 1, "etag") for key in self.keys)


def listed(*keys: str, uri: str = "s3://bucket/photos") -> ListedStore:
    return ListedStore(FOLDER, uri=uri, keys=keys)


def at(uri: str) -> ListedStore:
    return listed(uri=uri)


def test_images_by_extension_are_sources_and_all_else_is_counted() -> None:
    listing = SourceListing(
        listed("a.JPG", "b/.hidden.png", "b/c.Tiff", "notes.txt", "jpg", "x.jpg.gz", ".png", "d.")
    )
    assert [info.key for info in listing] == ["a.JPG", "b/.hidden.png", "b/c.Tiff"]
    assert listing.left_out == {NOT_AN_IMAGE: 5}


@given(
    st.lists(
        st.sampled_from(["dogs/", "_kaleidoscope/", "a/_kaleidoscope/", "augmented/", ""]).flatmap(
            lambda folder: st.sampled_from(["x.jpg", "x.txt", "y.png"]).map(folder.__add__)
        )
    )
)
def test_every_object_is_a_source_or_counted(keys: list[str]) -> None:
    listing = SourceListing(listed(*keys), at("s3://bucket/photos/augmented"))
    sources = [info.key for info in listing]
    assert sources == [key for key in keys if key in sources]
    assert len(sources) + listing.left_out.total() == len(keys)
    assert not any(key.startswith(("_kaleidoscope/", "augmented/")) for key in sources)
    assert all(Path(key).suffix in IMAGE_EXTENSIONS for key in sources)


def test_records_of_runs_are_no_sources() -> None:
    listing = SourceListing(listed("_kaleidoscope/card.jpg", "_kaleidoscope.png"))
    assert [info.key for info in listing] == ["_kaleidoscope.png"]
    assert listing.left_out == {RESERVED: 1}
    assert listing.nested is None


@pytest.mark.parametrize("folder", ["", "a", "a/b"])
def test_a_data_set_is_told_by_its_runs(folder: str) -> None:
    above = f"{folder}/" if folder else ""
    listing = SourceListing(
        listed(f"{above}_kaleidoscope/lease.json", f"{above}_kaleidoscope/runs/x/recipe.json")
    )
    assert list(listing) == []
    assert listing.nested == folder
    left_by_a_refused_run = SourceListing(listed(f"{above}_kaleidoscope/lease.json"))
    assert list(left_by_a_refused_run) == []
    assert left_by_a_refused_run.nested is None


@pytest.mark.parametrize(
    "uri", ["s3://bucket/photos/out", "s3://bucket/photos/out/", "s3://bucket/photos/out//"]
)
def test_a_destination_inside_the_source_is_left_out(uri: str) -> None:
    listing = SourceListing(listed("out/a.jpg", "out/b/c.jpg", "out.jpg", "outer/d.jpg"), at(uri))
    assert [info.key for info in listing] == ["out.jpg", "outer/d.jpg"]
    assert listing.left_out == {IN_DESTINATION: 2}


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a", "s3://bucket"),
        ("s3://bucket/a/b", "s3://bucket/a"),
        ("/data/a", "/data"),
        ("/data/a", "/"),
    ],
)
def test_a_source_that_is_the_destination_or_lies_in_it_is_refused(
    source: str, destination: str
) -> None:
    with pytest.raises(PlanError, match="choose a destination beside") as caught:
        SourceListing(at(source), at(destination))
    assert source in str(caught.value)
    assert destination in str(caught.value)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("s3://bucket/ab", "s3://bucket/a"),
        ("s3://bucket/a", "s3://bucket/ab"),
        ("s3://bucket-b", "s3://bucket"),
        ("s3://data/a", "/data"),
    ],
)
def test_a_name_that_begins_like_another_is_another(source: str, destination: str) -> None:
    listing = SourceListing(listed("b/x.jpg", "x.jpg", uri=source), at(destination))
    assert len(list(listing)) == 2


def test_a_destination_that_a_link_leads_to_is_seen_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "photos" / "out").mkdir(parents=True)
    (tmp_path / "photos" / "out" / "made.jpg").touch()
    (tmp_path / "photos" / "x.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "link-to-out").symlink_to(tmp_path / "photos" / "out")
    photos, link = LocalStore(tmp_path / "photos"), LocalStore(tmp_path / "link")
    for source, destination in [(photos, link), (link, photos)]:
        with pytest.raises(PlanError, match="choose a destination beside"):
            SourceListing(source, destination)
    for source in (photos, link):
        listing = SourceListing(source, LocalStore(tmp_path / "link-to-out"))
        assert [info.key for info in listing] == ["x.jpg"]


def test_a_listing_is_streamed() -> None:
    class Endless(ListedStore):
        def list_objects(
            self, prefix: str = "", *, on_skipped: SkipListener | None = None
        ) -> Iterator[ObjectInfo]:
            del prefix, on_skipped
            return (
                ObjectInfo(f"{n}.{'jpg' if n % 2 else 'txt'}", 1, "") for n in itertools.count()
            )

    listing = SourceListing(Endless(FOLDER))
    sources = list(itertools.islice(listing, 10_000))
    assert sources[-1].key == "19999.jpg"
    assert listing.left_out == {NOT_AN_IMAGE: 10_000}


def test_keys_that_break_the_rule_are_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = (("a\\b.jpg", "it has a backslash"), ("x//y.jpg", "it has an empty folder name"))
    listing = SourceListing(ListedStore(FOLDER, keys=("z.jpg",), broken=broken))
    with caplog.at_level(logging.WARNING):
        assert len(list(listing)) == 1
    assert listing.left_out == {UNUSABLE_KEY: 2}
    assert [record.args for record in caplog.records] == [
        ("s3://bucket/photos", key, reason) for key, reason in broken
    ]


def test_listing_again_counts_anew() -> None:
    listing = SourceListing(listed("a.txt", "b.jpg"))
    assert len(list(listing)) == len(list(listing)) == 1
    assert listing.left_out == {NOT_AN_IMAGE: 1}
