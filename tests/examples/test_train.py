from pathlib import Path

import pandas as pd
import pytest

from examples.train import compare


def test_the_comparison_trains_in_each_way_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "NUM_PER_CLASS", 6)
    compare.main(["--seeds", "1", "--steps", "80", "--output", str(tmp_path)])
    results = pd.read_csv(tmp_path / "results.csv")
    assert results["way"].tolist() == list(compare.WAYS)
    originals, by_image, by_source = results["num_training_images"]
    assert originals < 60 < 10 * originals < min(by_image, by_source)
    # Far from the 0.1 of a guess: labels and pixels belong together.
    assert results["test"].min() > 0.4
    assert capsys.readouterr().out.strip() in (tmp_path / "README.md").read_text()
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000


def test_the_committed_table_is_that_of_the_committed_results() -> None:
    results = pd.read_csv(compare.HERE / "results.csv")
    assert results["seed"].nunique() == 5
    assert compare.to_table(results) in (compare.HERE / "README.md").read_text()


def test_a_split_of_images_parts_siblings_and_a_split_of_sources_does_not() -> None:
    rows = pd.DataFrame({"source_id": sorted(list("abcdefgh") * 16)})
    split = compare.split_images(rows, seed=0)
    assert (split.groupby("source_id")["split"].nunique() == 2).all()
