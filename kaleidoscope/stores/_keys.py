"""What a key may look like, the same for every store."""

import logging
import re
from typing import ClassVar

from kaleidoscope.errors import StoreError
from kaleidoscope.stores._base import SkipListener

_logger = logging.getLogger(__name__)

_MAX_KEY_BYTES = 1024
"""S3's limit for a key, prefix included (AWS, "Creating object key names")."""

_FIRST_DEFECT = re.compile(
    r"(?P<edge>^/|/$)|(?P<empty>//)|(?P<dots>(?:^|/)\.\.?(?=/|$))|(?P<character>[\x00-\x1f\x7f\\\ufffe\uffff])"
)
_DEFECTS = {
    "edge": "it starts or ends with '/'",
    "empty": "it has an empty folder name ('//')",
    "dots": "it has '.' or '..' as a folder or file name",
    "character": "it has a backslash or a control character, such as a newline or a tab",
}


class InvalidKeyError(StoreError):
    """A key breaks the rule for keys, or is one that this store cannot hold."""

    retryable: ClassVar[bool] = False
    reason: ClassVar[str] = "invalid_key"


def find_key_defect(key: str) -> str | None:
    r"""Return what is wrong with ``key``, or None if every store can hold it.

    A key is at least one name, joined by ``/``. A name is not empty, is neither ``.`` nor ``..``
    and has no backslash, control character (U+0000 to U+001F, U+007F), U+FFFE or U+FFFF; the
    whole has at most 1,024 bytes of UTF-8. S3 itself allows more. But ``obstore`` cannot address
    such keys (it follows the rules of the Rust crate ``object_store``), a folder cannot hold most
    of them, XML cannot name some, so they could not be deleted in bulk, and other servers
    change some: SeaweedFS makes ``a/b`` of both ``a//b`` and ``a\b``.
    """
    if not key:
        return "it is empty"
    defect = _FIRST_DEFECT.search(key)
    if defect is not None and defect.lastgroup is not None:
        return _DEFECTS[defect.lastgroup]
    return _find_encoding_defect(key)


def check_key(key: str, *, uri: str) -> None:
    """Refuse a key that breaks the rule.

    Raises:
        InvalidKeyError: With the store's URI, the key and what is wrong with it.
    """
    defect = find_key_defect(key)
    if defect is not None:
        raise InvalidKeyError(f"{uri} cannot hold the key {key!r}: {defect}; rename the object")


def log_skipped(uri: str) -> SkipListener:
    """Return the listener that a listing uses if it is given none."""

    def warn(key: str, reason: str) -> None:
        _logger.warning("the listing of %s leaves out %r: %s", uri, key, reason)

    return warn


def _find_encoding_defect(key: str) -> str | None:
    try:
        num_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if num_bytes > _MAX_KEY_BYTES:
        return f"it has {num_bytes} bytes of UTF-8, and S3 takes at most {_MAX_KEY_BYTES}"
    return None
