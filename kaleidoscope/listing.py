"""Which objects below a source prefix are sources, and why the others are left out."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterator

from kaleidoscope.errors import PlanError
from kaleidoscope.identity import RESERVED_FOLDER
from kaleidoscope.model import ObjectInfo
from kaleidoscope.stores import (
    LINK_TO_ABOVE,
    LINK_TO_ITSELF,
    LINK_TO_NOTHING,
    NO_FILE,
    Store,
)

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
)
"""Extensions, in lower case, of the files that are tried; content decides what they are."""

NOT_AN_IMAGE = "no image by extension"
IN_DESTINATION = "under the destination"
MASK = "in the folder of masks"
RESERVED = f"in a folder {RESERVED_FOLDER}"
NESTED = "in the records of a data set"
UNUSABLE_KEY = "with a name that not every store can hold"
"""Each is in the log, with what is wrong with it."""

BROKEN_LINK = "by a link that leads nowhere"
"""Each is in the log."""

NOT_A_FILE = "that is no file"
LINK_LOOP = "by a link that leads back"
_SKIPPED = {
    LINK_TO_NOTHING: BROKEN_LINK,
    LINK_TO_ABOVE: LINK_LOOP,
    LINK_TO_ITSELF: LINK_LOOP,
    NO_FILE: NOT_A_FILE,
}

_RUNS = "runs/"
"""In the reserved folder of a data set."""

_logger = logging.getLogger(__name__)


class SourceListing:
    """The sources below a prefix, streamed in key order; counts what it leaves out."""

    def __init__(
        self, source: Store, destination: Store | None = None, *, masks: str | None = None
    ) -> None:
        """List ``source``, without what lies in ``destination``.

        Args:
            source: Where the sources are.
            destination: Where outputs go.
            masks: The folder of ``source`` that has masks and no sources.

        Raises:
            PlanError: If the source is the destination or lies in it: outputs and sources could
                not be told apart.
        """
        self._source = source
        self._masks_prefix = None if masks is None else f"{masks}/"
        self._destination_prefix: str | None = None
        self.left_out: Counter[str] = Counter()
        """Objects left out so far, by reason."""
        self.nested: str | None = None
        """A folder of the source that is a data set; empty if the source itself is one."""
        if destination is not None:
            check_apart(source, destination)
            self._destination_prefix = _below(destination.uri, source.uri)

    def __iter__(self) -> Iterator[ObjectInfo]:
        """Yield the sources."""
        self.left_out.clear()
        for info in self._source.list_objects(on_skipped=self._skip):
            reason = self._reason_against(info.key)
            if reason is None:
                yield info
            else:
                self.left_out[reason] += 1

    def _skip(self, key: str, reason: str) -> None:
        _logger.warning("the listing of %s leaves out %r: %s", self._source.uri, key, reason)
        self.left_out[_SKIPPED.get(reason, UNUSABLE_KEY)] += 1

    def _reason_against(self, key: str) -> str | None:
        if self._destination_prefix is not None and key.startswith(self._destination_prefix):
            return IN_DESTINATION
        if self._masks_prefix is not None and key.startswith(self._masks_prefix):
            return MASK
        above, folder, rest = f"/{key}".partition(f"/{RESERVED_FOLDER}/")
        if rest.startswith(_RUNS):  # A run that was refused may leave other files there.
            self.nested = above.removeprefix("/")
            return NESTED
        if posixpath.splitext(key)[1].lower() not in IMAGE_EXTENSIONS:
            return NOT_AN_IMAGE
        return RESERVED if folder else None


def check_apart(source: Store, destination: Store) -> None:
    """Refuse a destination of which outputs and sources could not be told apart.

    Raises:
        PlanError: If the source is the destination or lies in it.
    """
    if _below(source.uri, destination.uri) is not None:
        raise PlanError(
            f"the source {source.uri} must not be the destination {destination.uri} or lie "
            "in it; choose a destination beside the source"
        )


def _below(uri: str, folder: str) -> str | None:
    """Return the key prefix of ``uri`` in ``folder``, "" if they are the same, None if outside."""
    uri, folder = _resolved(uri).rstrip("/"), _resolved(folder).rstrip("/")
    if uri == folder:
        return ""
    folder += "/"
    return uri.removeprefix(folder) + "/" if uri.startswith(folder) else None


def _resolved(uri: str) -> str:
    """Follow links of a local path, so that no destination is taken for a folder of sources."""
    return uri if "://" in uri else os.path.realpath(uri)
