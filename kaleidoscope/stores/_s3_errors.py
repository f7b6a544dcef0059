"""What S3's answers mean to us.

Messages take S3's code and sentence and nothing else. The rest of an answer stays out, the
original error too: to a wrong signature S3 answers with the request, session token included.
"""

import contextlib
import re
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from kaleidoscope.errors import (
    AccessError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)

_CODE = re.compile(r"<Code>([^<]+)</Code>")
_SENTENCE = re.compile(r"<Message>([^<]+)</Message>")
_STATUS = re.compile(r"status code: (\d{3}[ \w]*)")
_CAUSE = re.compile(r"kind: \w+, message: \"([^\"]+)\"")
_NO_BUCKET_CODES = frozenset({"NoSuchBucket", "InvalidBucketName"})
_DENIED_KEY = "(code: AccessDenied)"
"""In obstore's error for one of several objects that were to be deleted."""
_REFUSED_STATUS = frozenset({"401", "403"})


@contextlib.contextmanager
def translated(uri: str, what: str) -> Iterator[None]:
    """Turn what the S3 clients raise into errors of ours.

    Args:
        uri: The store's.
        what: What was to be done to which key, for the message: ``get a/b.jpg``.
    """
    try:
        yield
    # FileNotFoundError is obstore's for 404.
    except (BaseError, FileNotFoundError) as error:
        raise _from_obstore(error, uri, what) from None
    except ClientError as error:
        raise _from_botocore(error, uri, what) from None
    except BotoCoreError as error:
        raise StoreError(f"{uri}: cannot {what}: {error}; is the server up?") from None


def _from_obstore(error: Exception, uri: str, what: str) -> StoreError:
    text = str(error)
    code = _find(_CODE, text)
    if code in _NO_BUCKET_CODES:
        return _no_bucket(uri, what)
    reason = _reason(text, code)
    if isinstance(error, FileNotFoundError):
        return ObjectMissingError(f"{uri}: cannot {what}: there is no such object")
    if isinstance(error, AlreadyExistsError):
        return ObjectExistsError(f"{uri}: cannot {what}: the object exists already")
    if isinstance(error, PreconditionError):
        return ObjectChangedError(f"{uri}: cannot {what}: the object has changed since")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _DENIED_KEY in text:
        return _refused(uri, what, reason)
    return StoreError(f"{uri}: cannot {what}: {reason}")


def _from_botocore(error: ClientError, uri: str, what: str) -> StoreError:
    answer = error.response["Error"]
    code = answer.get("Code", "")
    status = str(error.response["ResponseMetadata"].get("HTTPStatusCode", ""))
    if code in _NO_BUCKET_CODES:
        return _no_bucket(uri, what)
    if code == "NoSuchKey":
        return ObjectMissingError(f"{uri}: cannot {what}: there is no such object")
    reason = f"{code}: {answer.get('Message', '')} (HTTP {status})"
    if status in _REFUSED_STATUS:
        return _refused(uri, what, reason)
    return StoreError(f"{uri}: cannot {what}: {reason}")


def _reason(text: str, code: str | None) -> str:
    status = _find(_STATUS, text)
    if status is not None:
        answer = f"{code}: {_find(_SENTENCE, text)} " if code is not None else ""
        return f"{answer}(HTTP {status})"
    # The first line is for people, the rest is obstore's own view of its structures.
    line = text.partition("\n")[0]
    if "redirect" in line:
        return f"{line}; set KALEIDOSCOPE_S3_REGION to the bucket's region"
    cause = _find(_CAUSE, text)
    return line if cause is None else f"{line} ({cause})"


def _no_bucket(uri: str, what: str) -> AccessError:
    return AccessError(
        f"{uri}: cannot {what}: there is no such bucket; check the URI, "
        "or KALEIDOSCOPE_S3_ENDPOINT_URL if it is on a server of your own"
    )


def _refused(uri: str, what: str, reason: str) -> AccessError:
    return AccessError(
        f"{uri}: may not {what}: {reason}; check the credentials and what they are allowed"
    )


def _find(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return None if match is None else match[1].strip()
