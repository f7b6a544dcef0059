"""Tables and pictures of a page."""

from flows.markdown import picture, table


def test_no_text_ends_its_cell_or_its_row() -> None:
    assert table(("a", "b"), [("x|y", "two\nlines")]) == (
        "| a | b |\n| --- | --- |\n| x\\|y | two lines |"
    )


def test_what_is_escaped_already_is_left() -> None:
    assert table(("a",), [(r"x\|y",)]) == table(("a",), [("x|y",)])


def test_a_picture_is_part_of_the_page() -> None:
    assert picture("one", b"abc", "image/png") == "![one](data:image/png;base64,YWJj)"
