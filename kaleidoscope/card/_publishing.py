"""Write the card and the table beside the outputs."""

import logging
from contextlib import suppress

from kaleidoscope.card._facts import gather
from kaleidoscope.card._sheet import draw_samples
from kaleidoscope.card._text import BEGIN, END, body, front_matter, run_mark
from kaleidoscope.errors import KaleidoscopeError, ObjectMissingError
from kaleidoscope.identity import CARD_KEY, METADATA_KEY, RESERVED_FOLDER
from kaleidoscope.lineage import Lineage
from kaleidoscope.metadata import MAX_ROWS, columns_for, to_metadata
from kaleidoscope.runs import list_runs, load_request
from kaleidoscope.stores import Store

SHEET_KEY = f"{RESERVED_FOLDER}/card.jpg"
"""The picture that a card shows."""

_logger = logging.getLogger(__name__)


def refresh_card(destination: Store) -> str | None:
    """Call :func:`write_card` if there is no card, or it does not count the newest run.

    Returns:
        In words why it could not be written. That is no error of the run before: what it made is
        committed, with or without a card.
    """
    try:
        committed = [entry.run_id for entry in list_runs(destination) if entry.is_committed]
        text = _read_card(destination)
        if text is None or run_mark(committed[-1]) not in text:
            write_card(destination)
    except KaleidoscopeError as error:
        return (
            f"the card of {destination.uri} could not be written, which `kaleidoscope card` or the "
            f"next run does: {error}"
        )
    return None


def write_card(destination: Store) -> str:
    """Write the card, its picture, and the table for Hugging Face, of all committed runs.

    A ``README.md`` without our marks is somebody's own and stays; the card is then only returned.
    What was written below the marks stays, too. There is no table for tars, nor for more images
    than :data:`~kaleidoscope.metadata.MAX_ROWS`; one of a smaller past is removed.

    Args:
        destination: Where the runs are.

    Returns:
        The card.

    Raises:
        KaleidoscopeError: If nothing is committed there, a record is missing or damaged, or the
            store cannot be read or written.
    """
    lineage = Lineage(destination)
    facts = gather(lineage)
    has_metadata = 0 < facts.counts.num_images <= MAX_ROWS and not facts.counts.in_tars
    if has_metadata:
        columns = columns_for(load_request(destination, lineage.runs[-1]).recipe)
        destination.put(METADATA_KEY, to_metadata(lineage.scan(columns), columns))
    else:
        _remove_metadata(destination)
    sheet = draw_samples(destination, facts.samples)
    if sheet is not None:
        destination.put(SHEET_KEY, sheet)
    generated = body(
        facts, has_metadata=has_metadata, sheet_key=None if sheet is None else SHEET_KEY
    )
    before = _read_card(destination)
    own = "" if before is None else before.partition(END)[2].removeprefix("\n")
    text = front_matter(facts, has_metadata=has_metadata) + "\n" + generated + own
    if before is not None and BEGIN not in before:
        _logger.warning(
            "%s/%s was not written by Kaleidoscope and stays as it is", destination.uri, CARD_KEY
        )
        return text
    # The last, since it says up to which run all of it counts.
    destination.put(CARD_KEY, text.encode())
    return text


def _remove_metadata(destination: Store) -> None:
    """Remove the table if there is one; where there is none, no right to delete is needed."""
    with suppress(ObjectMissingError):
        destination.head(METADATA_KEY)
        destination.delete([METADATA_KEY])


def _read_card(destination: Store) -> str | None:
    try:
        return destination.get(CARD_KEY).data.decode(errors="replace")
    except ObjectMissingError:
        return None
