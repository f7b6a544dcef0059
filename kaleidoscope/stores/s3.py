"""A store in a bucket of S3 or of a server that speaks its protocol."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import obstore

from kaleidoscope.errors import (
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from kaleidoscope.model import ObjectInfo
from kaleidoscope.settings import Settings
from kaleidoscope.stores._base import ObjectWriter, SkipListener, StoredObject
from kaleidoscope.stores._keys import check_key, find_key_defect, log_skipped
from kaleidoscope.stores._ordering import in_key_order
from kaleidoscope.stores._s3_connection import S3Connection, S3Credentials
from kaleidoscope.stores._s3_errors import translated

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta, PutMode, PutResult, WritableFile

MULTIPART_SIZE = 16 * 1024 * 1024
"""Objects of more bytes go up in parts of this size."""

PIECE_SIZE = 8 * 1024 * 1024
"""Bytes of a part of an object that is written in pieces; 10,000 of them are the most that S3
takes, 80 GB."""

PIECES_AT_ONCE = 4
"""Parts of one object that are under way; each is held in memory."""

_IMPORTED_IN = os.getpid()
"""A process with another number was forked off. obstore's threads did not come along, and it waits
for them for ever; botocore has none."""

_CONTENT_TYPES = {
    ".bmp": "image/bmp",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".tar": "application/x-tar",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
"""For browsers; own table, since that of the standard library depends on the machine."""


class S3Store:
    """Objects below a prefix of a bucket; the port says what the methods promise.

    Left out of listings, and told to the listener: keys that break the rule for keys.

    From AWS, listings come page by page. Other servers may list in an order of their own
    (SeaweedFS has ``a/x`` before ``a-b``), so theirs are sorted first, outside of memory.

    A process that was forked off, as PyTorch's workers are, can list and get, but not write.

    A server that is down is a StoreError after ``s3_retry_timeout_s``, one that takes requests
    and never answers after at most ``s3_read_timeout_s`` more.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        settings: Settings | None = None,
        credentials: S3Credentials | None = None,
    ) -> None:
        """Open the store; no request is sent to it yet, but credentials are looked for.

        Args:
            bucket: Its name.
            prefix: Folders in it, joined by ``/``; empty for the whole bucket.
            settings: Endpoint, timeouts, retries. None is AWS with the defaults.
            credentials: None finds them along the AWS chain.

        Raises:
            SettingsError: If there are no credentials, or the role that they name cannot be taken.
            InvalidKeyError: If the prefix breaks the rule for keys.
        """
        self._bucket = bucket
        self._folder = f"{prefix}/" if prefix else ""
        self._uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        if prefix:
            check_key(prefix, uri=f"s3://{bucket}")
        self._connection = S3Connection.from_settings(
            bucket,
            Settings.model_construct() if settings is None else settings,
            S3Credentials() if credentials is None else credentials,
        )
        self._client = self._connection.make_data_client()
        self._list_client_lock = threading.Lock()
        self._list_client: Any = None

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``, without a slash at the end."""
        return self._uri

    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with ``prefix``, in key order."""
        objects = self._list_pages(prefix, on_skipped or log_skipped(self.uri))
        return objects if self._connection.endpoint_url is None else in_key_order(objects)

    def get(self, key: str) -> StoredObject:
        """Return the whole object, in one request."""
        path = self._locate(key)
        with translated(self.uri, f"get {key}"):
            if os.getpid() != _IMPORTED_IN:
                return self._get_by_botocore(key, path)
            result = obstore.get(self._client, path)
            data = result.bytes().to_bytes()
        return StoredObject(_make_info(key, result.meta), data)

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the object from ``offset`` on, in one request."""
        path = self._locate(key)
        if length == 0:  # HTTP has no such range.
            size = self.head(key).size
            data = b""
        else:
            with translated(self.uri, f"get {length} bytes from {offset} on of {key}"):
                if os.getpid() != _IMPORTED_IN:
                    span = f"bytes={offset}-{offset + length - 1}"
                    data = self._get_by_botocore(key, path, Range=span).data
                else:
                    data = obstore.get_range(
                        self._client, path, start=offset, length=length
                    ).to_bytes()
            size = offset + len(data)
        if offset > size or len(data) < length:
            raise StoreError(
                f"{self.uri}: {key} has {size} bytes, wanted {length} from {offset} on; "
                "it was cut short or replaced"
            )
        return data

    def head(self, key: str) -> ObjectInfo:
        """Return what S3 knows of the object."""
        path = self._locate(key)
        with translated(self.uri, f"look at {key}"):
            if os.getpid() != _IMPORTED_IN:
                return self._head_by_botocore(key, path)
            try:
                meta = obstore.head(self._client, path)
            except FileNotFoundError:
                # The answer to HEAD has no body that says whether the bucket or the key is
                # missing; that to GET has.
                meta = obstore.get(self._client, path).meta
        return _make_info(key, meta)

    def put(self, key: str, data: bytes) -> None:
        """Write the whole object."""
        self._write(key, data, "overwrite")

    @contextmanager
    def write_in_pieces(self, key: str) -> Iterator[ObjectWriter]:
        """Write the object by a multipart upload.

        What is left of one that failed is no object; a lifecycle rule of the bucket removes it.
        """
        path = self._locate(key)
        self._refuse_fork(f"write {key}")
        with translated(self.uri, f"begin {key}"):
            file = obstore.open_writer(
                self._client,
                path,
                attributes=_attributes(key),
                buffer_size=PIECE_SIZE,
                max_concurrency=PIECES_AT_ONCE,
            )
        yield _S3Writer(file, self.uri, key)
        with translated(self.uri, f"finish {key}"):
            file.close()

    def create(self, key: str, data: bytes) -> None:
        """Write the object by a conditional request (``If-None-Match: *``)."""
        self._write(key, data, "create")

    def replace(self, key: str, data: bytes, *, etag: str) -> str:
        """Write the object by a conditional request (``If-Match``)."""
        try:
            written = self._write(key, data, {"e_tag": f'"{etag}"'})
        except (ObjectMissingError, ObjectExistsError) as error:  # AWS's 404 and 409.
            raise ObjectChangedError(f"{self.uri}: {key} is not the version {etag}") from error
        return _plain_etag(written["e_tag"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, 1,000 with each request."""
        paths = [self._locate(key) for key in keys]
        if paths:
            self._refuse_fork(f"delete {len(paths)} objects")
            with translated(self.uri, f"delete {len(paths)} objects"):
                obstore.delete(self._client, paths)

    def _locate(self, key: str) -> str:
        path = self._folder + key
        # Whatever is wrong with the key is wrong with the path too; one check for each request.
        if find_key_defect(path) is not None:
            check_key(key, uri=self.uri)
            check_key(path, uri=f"s3://{self._bucket}")
        return path

    def _refuse_fork(self, what: str) -> None:
        if os.getpid() != _IMPORTED_IN:
            raise StoreError(
                f"{self.uri}: cannot {what} in a process that was forked off; start it by spawn"
            )

    def _write(self, key: str, data: bytes, mode: "PutMode") -> "PutResult":
        path = self._locate(key)
        self._refuse_fork(f"write {key}")
        with translated(self.uri, f"write {key}"):
            return obstore.put(
                self._client,
                path,
                data,
                attributes=_attributes(key),
                mode=mode,
                chunk_size=MULTIPART_SIZE,
            )

    def _list_pages(self, prefix: str, on_skipped: SkipListener) -> Iterator[ObjectInfo]:
        pages = self._open_list_client().get_paginator("list_objects_v2")
        requests = iter(pages.paginate(Bucket=self._bucket, Prefix=self._folder + prefix))
        while True:
            with translated(self.uri, f"list {prefix or 'all objects'}"):
                page = next(requests, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                yield from self._list_entry(entry, on_skipped)

    def _list_entry(self, entry: dict[str, Any], on_skipped: SkipListener) -> Iterator[ObjectInfo]:
        path: str = entry["Key"]
        if path.endswith("/") and entry["Size"] == 0:
            return
        key = path.removeprefix(self._folder)
        defect = find_key_defect(key) or find_key_defect(path)
        if defect is None:
            yield ObjectInfo(key, entry["Size"], entry["ETag"].strip('"'))
        else:
            on_skipped(key, defect)

    def _get_by_botocore(self, key: str, path: str, **options: str) -> StoredObject:
        answer = self._open_list_client().get_object(Bucket=self._bucket, Key=path, **options)
        data: bytes = answer["Body"].read()
        etag = answer["ETag"].removeprefix("W/").strip('"')
        return StoredObject(ObjectInfo(key, len(data), etag, answer.get("VersionId")), data)

    def _head_by_botocore(self, key: str, path: str) -> ObjectInfo:
        client = self._open_list_client()
        try:
            answer = client.head_object(Bucket=self._bucket, Key=path)
        except client.exceptions.ClientError:  # As above: that to GET says what is wrong.
            return self._get_by_botocore(key, path).info
        etag = answer["ETag"].removeprefix("W/").strip('"')
        return ObjectInfo(key, answer["ContentLength"], etag, answer.get("VersionId"))

    def _open_list_client(self) -> Any:
        # Making a client changes the session, which is not for two threads at once.
        with self._list_client_lock:
            if self._list_client is None:
                self._list_client = self._connection.make_list_client()
        return self._list_client


class _S3Writer:
    """Hands the pieces of an object to its multipart upload."""

    def __init__(self, file: "WritableFile", uri: str, key: str) -> None:
        self._file = file
        self._uri = uri
        self._key = key

    def write(self, data: bytes) -> None:
        with translated(self._uri, f"write to {self._key}"):
            self._file.write(data)


def _attributes(key: str) -> "Attributes | None":
    content_type = _CONTENT_TYPES.get(key[key.rfind(".") :].lower())
    return None if content_type is None else {"Content-Type": content_type}


def _make_info(key: str, meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(key, meta["size"], _plain_etag(meta["e_tag"]), meta["version"])


def _plain_etag(etag: str | None) -> str:
    # Weak etags and quotes are HTTP's; listings and headers differ in them.
    return (etag or "").removeprefix("W/").strip('"')
