"""Which mask belongs to which source, by their names.

A mask lies in a folder of the source prefix, and is called as its source but for the extension:
``masks/cats/rex.png`` for ``cats/rex.jpg``. Where images have a folder beside that of the masks,
it is left away: ``masks/rex.png`` for ``images/rex.jpg``.
"""

import posixpath
from collections.abc import Iterable

from kaleidoscope.errors import PlanError
from kaleidoscope.model import ObjectInfo
from kaleidoscope.stores import Store

MASK_EXTENSIONS = frozenset({".png", ".tif", ".tiff", ".bmp"})
"""In lower case: the formats that keep every value."""

_LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})


class Masks:
    """The masks of a data set by the names of their sources."""

    def __init__(self, folder: str, by_stem: dict[str, ObjectInfo]) -> None:
        """Take masks.

        Args:
            folder: Where they lie, for errors.
            by_stem: Each by its path below the folder, without extension.
        """
        self._folder = folder
        self._by_stem = by_stem
        self._claimed: dict[str, str] = {}

    def of(self, source_key: str) -> ObjectInfo | None:
        """Return the mask of a source; None if there is none."""
        stem = posixpath.splitext(source_key)[0]
        return self._by_stem.get(stem) or self._by_stem.get(stem.partition("/")[2])

    def claim(self, source_key: str) -> ObjectInfo | None:
        """Return the mask of a source, which no other source may have.

        Raises:
            PlanError: If another one has it.
        """
        mask = self.of(source_key)
        if mask is not None:
            owner = self._claimed.setdefault(mask.key, source_key)
            if owner != source_key:
                raise PlanError(
                    f"the mask {mask.key} would belong to {owner} and to {source_key}; call masks "
                    f"by the whole path of their source, such as "
                    f"{self._folder}/{posixpath.splitext(source_key)[0]}.png"
                )
        return mask


def find_mask(source: Store, folder: str, source_key: str) -> ObjectInfo | None:
    """Return the mask of one source, with no look at the others; None if there is none.

    Args:
        source: Where the masks lie, with the sources.
        folder: Below the source prefix.
        source_key: Relative to the source prefix.

    Raises:
        PlanError: As :func:`find_masks`, but for having none.
    """
    stem = posixpath.splitext(source_key)[0]
    for name in (stem, stem.partition("/")[2]):
        masks = _collect(source.list_objects(f"{folder}/{name}."), folder) if name else {}
        if name in masks:
            return masks[name]
    return None


def find_masks(source: Store, folder: str) -> Masks:
    """List the masks of a data set.

    Args:
        source: Where they lie, with the sources.
        folder: Below the source prefix.

    Raises:
        PlanError: If there is none, one is of a lossy format, or two differ by extension only.
    """
    by_stem = _collect(source.list_objects(f"{folder}/"), folder)
    if not by_stem:
        raise PlanError(
            f"there is no mask under {source.uri.rstrip('/')}/{folder}/; check targets.masks"
        )
    return Masks(folder, by_stem)


def _collect(listed: Iterable[ObjectInfo], folder: str) -> dict[str, ObjectInfo]:
    by_stem: dict[str, ObjectInfo] = {}
    for info in listed:
        stem, extension = posixpath.splitext(info.key.removeprefix(f"{folder}/"))
        if extension.lower() in _LOSSY:
            raise PlanError(
                f"the mask {info.key} is of a lossy format, so its values are not those that were "
                f"drawn; masks must be {', '.join(sorted(MASK_EXTENSIONS))}"
            )
        if extension.lower() not in MASK_EXTENSIONS:
            continue
        if (other := by_stem.setdefault(stem, info)) is not info:
            raise PlanError(
                f"{other.key} and {info.key} would be masks of the same source; leave one of them"
            )
    return by_stem
