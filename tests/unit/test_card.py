import logging
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from kaleidoscope.card import refresh_card, write_card
from kaleidoscope.errors import AccessError, ManifestError
from kaleidoscope.identity import CARD_KEY, METADATA_KEY
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.stores import LocalStore
from tests import data_sets, image_files
from tests.data_sets import NOW, Place
from tests.faulty_stores import Requests, WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16, seed=11)
PHOTO = image_files.opencv(".jpg", image_files.picture(51, 37))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """One run over two classes, one of them named as a split is, and a file that is no image."""
    images = {
        "cats/a.jpg": PHOTO,
        "cats/b.jpg": PHOTO + b"x",
        "test/c|d.jpg": PHOTO + b"y",
        "test/broken.jpg": b"no image",
    }
    place = data_sets.local(tmp_path, images)
    place.run(RECIPE)
    return place


def card_of(place: Place) -> str:
    return place.destination.get(CARD_KEY).data.decode()


def test_a_card_counts_images_by_label_and_node_and_names_failures(place: Place) -> None:
    assert write_card(place.destination) == card_of(place)
    text = card_of(place)
    for line in (
        "| cats | 8 |",
        "| test | 4 |",
        "| root | 3 |",
        "| ab | 3 |",
        "| not\\_an\\_image | 1 |",
        f"Recipe `{RECIPE.digest}`, seed 11:",
    ):
        assert line in text
    assert "`test/broken.jpg`" in text
    assert "12 images" in text


def test_the_recipe_on_the_card_is_the_one_that_made_it(place: Place) -> None:
    text = write_card(place.destination)
    written = text.split("```yaml\n")[1].split("```")[0]
    assert type(RECIPE).from_text(written) == RECIPE


def test_front_matter_is_what_hugging_face_reads(place: Place) -> None:
    _, matter, _ = write_card(place.destination).split("---\n", 2)
    document = yaml.safe_load(matter)
    assert document["task_categories"] == ["image-classification"]
    assert document["size_categories"] == ["n<1K"]
    (config,) = document["configs"]
    assert config["data_files"] == [{"split": "train", "path": [METADATA_KEY, "**/*.jpg"]}]


def test_samples_are_a_picture_and_links_to_what_is_there(place: Place) -> None:
    text = write_card(place.destination)
    data = place.destination.get("_kaleidoscope/card.jpg").data
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (2 * 132 - 4, 4 * 132 - 4, 3)  # Two classes, four nodes.
    links = [part.split(">)")[0] for part in text.split("](<")[1:]]
    assert len(links) == 8
    for link in links:
        assert place.destination.head(link).size


def test_the_code_on_a_card_runs(place: Place) -> None:
    text = write_card(place.destination)
    snippets = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(snippets) == 5
    for snippet in snippets:
        compile(snippet, "card", "exec")


def test_a_later_run_counts_with_the_earlier(place: Place) -> None:
    write_card(place.destination)
    place.source.put("dogs/e.jpg", PHOTO)
    place.source.put("cats/a.jpg", PHOTO + b"changed")
    place.run(RECIPE, now=NOW + timedelta(days=1))
    text = write_card(place.destination)
    assert "| cats | 8 |" in text
    assert "| dogs | 4 |" in text
    assert text.count("| 2026") == 2


def test_a_card_is_refreshed_for_a_new_run_only(place: Place) -> None:
    refresh_card(place.destination)
    etag = place.destination.head(METADATA_KEY).etag
    place.destination.delete([METADATA_KEY])
    refresh_card(place.destination)
    assert METADATA_KEY not in {info.key for info in place.destination.list_objects()}
    place.source.put("dogs/e.jpg", PHOTO)
    place.run(RECIPE, now=NOW + timedelta(days=1))
    refresh_card(place.destination)
    assert place.destination.head(METADATA_KEY).etag != etag
    assert "| dogs | 4 |" in card_of(place)


def test_what_someone_wrote_below_the_marks_stays(place: Place) -> None:
    text = write_card(place.destination)
    place.destination.put(CARD_KEY, f"{text}\n## Licence\n\nOurs.\n".encode())
    assert write_card(place.destination).endswith("\n## Licence\n\nOurs.\n")
    assert write_card(place.destination).count("## Licence") == 1


def test_a_readme_of_somebody_else_stays(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.destination.put(CARD_KEY, b"# Mine\n")
    with caplog.at_level(logging.WARNING):
        assert "| cats | 8 |" in write_card(place.destination)
    assert card_of(place) == "# Mine\n"
    assert "was not written by Kaleidoscope" in caplog.text


def test_names_from_outside_do_not_become_markup(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a|b *c* <i>/x.jpg": PHOTO, "`q`/y.jpg": b"no"})
    place.run(RECIPE)
    text = write_card(place.destination)
    assert "| a\\|b \\*c\\* \\<i\\> | 4 |" in text
    assert "- `'q'/y.jpg`" in text


def test_a_data_set_of_which_nothing_could_be_made_has_a_card(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"cats/a.jpg": b"no image"})
    place.run(RECIPE)
    text = write_card(place.destination)
    assert "0 images" in text
    assert "| not\\_an\\_image | 1 |" in text
    assert {info.key for info in place.destination.list_objects()} & {METADATA_KEY} == set()


def test_nodes_are_listed_from_the_root_on(place: Place) -> None:
    text = write_card(place.destination)
    names = [line.split(" | ")[0] for line in text.split("| node |")[1].splitlines()[2:6]]
    assert names == ["| root", "| a", "| b", "| ab"]


def test_a_destination_without_a_committed_run_has_no_card(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(ManifestError, match="no run is committed"):
        write_card(store)


def test_an_image_that_is_missing_or_damaged_leaves_its_place_white(place: Place) -> None:
    keys = sorted(place.output_keys())
    place.destination.delete(keys[:1])
    place.destination.put(keys[1], b"damaged")
    assert refresh_card(place.destination) is None
    assert "12 images" in card_of(place)


def test_what_keeps_a_card_from_being_written_is_told_and_no_error(place: Place) -> None:
    def refuse(action: str, key: str) -> None:
        if (action, key) == ("put", CARD_KEY):
            raise AccessError(f"may not write {key}")

    trouble = refresh_card(WatchedStore(place.destination, before=refuse))
    assert trouble is not None
    assert "may not write README.md" in trouble


def test_tars_need_no_right_to_delete(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"cats/a.jpg": PHOTO})
    place.run(data_sets.recipe(steps=1, side=16, output={"container": "webdataset"}))
    requests = Requests()
    assert refresh_card(WatchedStore(place.destination, before=requests)) is None
    assert not list(requests.keys("delete"))


def test_tars_with_images_that_no_longer_stand_are_not_offered_as_they_are(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"cats/a.jpg": PHOTO, "cats/b.jpg": PHOTO + b"x"})
    tars = data_sets.recipe(steps=1, side=16, output={"container": "webdataset"})
    place.run(tars, StartOptions())
    assert "*.tar" in write_card(place.destination)
    place.source.put("cats/a.jpg", PHOTO + b"changed")
    place.run(tars, StartOptions(), now=NOW + timedelta(days=1))
    text = write_card(place.destination)
    assert "*.tar" not in text
    assert "also hold 2 images that are no longer of the data set" in text
    place.source.put("cats/b.jpg", PHOTO + b"changed, too")
    place.run(tars, StartOptions(), now=NOW + timedelta(days=2))
    place.destination.delete([min(key for key in place.output_keys())])  # As a prune would.
    assert "*.tar" in write_card(place.destination)
