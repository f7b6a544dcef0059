import pandas as pd
import pytest

from kaleidoscope.errors import LoaderError, ObjectMissingError
from kaleidoscope.loaders import iter_images
from tests.unit.loaders.conftest import main_color


def test_every_image_comes_once_with_its_row_and_in_its_order(
    run_uri: str, rows: pd.DataFrame
) -> None:
    seen = []
    for image, row in iter_images(run_uri, rows):
        assert image.shape == (row.height, row.width, 3)
        assert main_color(image) == row.label
        seen.append(row.output_id)
    assert seen == rows.loc[rows["status"] == "ok", "output_id"].tolist()


def test_rows_that_a_query_left_are_read_and_no_others(run_uri: str, rows: pd.DataFrame) -> None:
    wanted = rows.query("label == 'green' and node == 'ab'")
    assert [row.node for _, row in iter_images(run_uri, wanted)] == ["ab"] * 3


def test_a_split_needs_its_column(run_uri: str, rows: pd.DataFrame) -> None:
    with pytest.raises(LoaderError, match="no column 'split'"):
        next(iter_images(run_uri, rows[["output_key"]], split="train"))


@pytest.mark.parametrize("column", ["tar_key", "offset", "length"])
def test_a_column_without_which_no_member_is_found_is_named(
    tars_uri: str, members: pd.DataFrame, column: str
) -> None:
    with pytest.raises(LoaderError, match=f"no column '{column}'"):
        next(iter_images(tars_uri, members.drop(columns=column)))


def test_images_that_are_objects_need_no_column_of_tars(run_uri: str, rows: pd.DataFrame) -> None:
    for columns in (["output_key"], ["output_key", "tar_key"]):
        assert len(list(iter_images(run_uri, rows[columns]))) == 24


def test_an_image_that_is_gone_ends_the_iteration_with_its_key(
    run_uri: str, rows: pd.DataFrame
) -> None:
    row = rows[rows["status"] == "ok"].head(1)
    missing = row.assign(output_key="red/gone.png")
    with pytest.raises(ObjectMissingError, match=r"red/gone\.png"):
        next(iter_images(run_uri, missing))


def test_an_iteration_that_is_left_early_reads_no_more_than_it_had_asked_for(
    run_uri: str, rows: pd.DataFrame
) -> None:
    late = rows[rows["status"] == "ok"].reset_index(drop=True)
    late.loc[20, "output_key"] = "red/gone.png"  # Farther than is read ahead.
    for _, row in iter_images(run_uri, late):
        assert row.output_id == late.loc[0, "output_id"]
        break
