"""Where images come from and go to: objects in a bucket or in a folder.

:func:`open_store` is the only place that knows which adapter serves which URI. Credentials for
S3 are given, or found along the AWS chain as botocore walks it: environment, profile (with SSO or
a process), web identity, container, instance. Endpoint and timeouts are
:class:`~kaleidoscope.settings.Settings`.
"""

import re
from urllib.parse import unquote, urlsplit

from kaleidoscope.errors import SettingsError
from kaleidoscope.settings import Settings
from kaleidoscope.stores._base import ObjectWriter, SkipListener, Store, StoredObject
from kaleidoscope.stores._keys import InvalidKeyError, find_key_defect
from kaleidoscope.stores._ordering import in_key_order
from kaleidoscope.stores._range_file import RangeFile
from kaleidoscope.stores._s3_connection import AssumedRole, S3Credentials
from kaleidoscope.stores.local import (
    LINK_TO_ABOVE,
    LINK_TO_ITSELF,
    LINK_TO_NOTHING,
    NO_FILE,
    LocalStore,
)
from kaleidoscope.stores.s3 import PIECE_SIZE, PIECES_AT_ONCE, S3Store

__all__ = [
    "LINK_TO_ABOVE",
    "LINK_TO_ITSELF",
    "LINK_TO_NOTHING",
    "NO_FILE",
    "PIECES_AT_ONCE",
    "PIECE_SIZE",
    "AssumedRole",
    "InvalidKeyError",
    "LocalStore",
    "ObjectWriter",
    "RangeFile",
    "S3Credentials",
    "S3Store",
    "SkipListener",
    "Store",
    "StoredObject",
    "find_key_defect",
    "in_key_order",
    "open_store",
]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_FORGOTTEN_SLASH = re.compile(r"(s3|file):(?!//)", re.IGNORECASE)
_POSSIBLE = "a path, file:///path or s3://bucket/prefix"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_store(
    uri: str, *, settings: Settings | None = None, credentials: S3Credentials | None = None
) -> Store:
    """Return the store at ``uri``; no request is sent to it and no file is touched yet.

    Args:
        uri: A path, ``file:///path`` or ``s3://bucket/prefix``. In the last, as in all AWS
            tools, ``%``, ``#`` and ``?`` stand for themselves; a ``/`` at the end changes nothing.
        settings: For S3; None is AWS with the defaults.
        credentials: For S3; None finds them along the AWS chain.

    Raises:
        SettingsError: If the URI has another scheme or no bucket, there are no credentials,
            the role that they name cannot be taken, or names of files are not UTF-8 here.
        InvalidKeyError: If the prefix breaks the rule for keys.
    """
    # Messages name parts of a URI only, since people put passwords into them.
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            "the name of a store must be UTF-8; rename the folder, or set PYTHONUTF8=1 if it is"
        ) from error
    scheme = _SCHEME.match(uri)
    if not uri.strip() or _FORGOTTEN_SLASH.match(uri):
        raise SettingsError(f"a store is {_POSSIBLE}; got {uri!r}")
    if scheme is None:
        return LocalStore(uri)
    match scheme[1].lower():
        case "file":
            return LocalStore(_file_path(uri))
        case "s3":
            bucket, _, prefix = uri[scheme.end() :].partition("/")
            return _open_s3(bucket, prefix.strip("/"), settings, credentials)
        case other:
            raise SettingsError(f"a store is {_POSSIBLE}; got a URI that begins with {other}://")


def _file_path(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc not in {"", "localhost"} or not parts.path or parts.query or parts.fragment:
        raise SettingsError(
            "file:// is followed by an absolute path of this machine, in which '%', '?' and '#' "
            "are written %25, %3F and %23"
        )
    return unquote(parts.path, errors="surrogateescape")


def _open_s3(
    bucket: str, prefix: str, settings: Settings | None, credentials: S3Credentials | None
) -> S3Store:
    if not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            "s3:// is followed by a bucket's name (letters, digits, '.', '-', '_') and a prefix"
        )
    return S3Store(bucket, prefix, settings=settings, credentials=credentials)
