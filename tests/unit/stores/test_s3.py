"""What is special to S3: errors that name what to do, bounded time, odd listings."""

import http.server
import multiprocessing
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import botocore.session
import obstore
import pytest
from obstore.exceptions import GenericError
from pydantic import SecretStr

from kaleidoscope.errors import AccessError, ObjectMissingError, StoreError
from kaleidoscope.settings import Settings
from kaleidoscope.stores import InvalidKeyError, S3Credentials, S3Store, Store, open_store
from tests.conftest import BUCKET
from tools.seaweedfs import SeaweedFS

SECRET = "wJalrXUtnFEMI-not-to-be-shown"  # noqa: S105 - of nobody.
TOKEN = "IQoJb3JpZ2luX2VjE-not-to-be-shown"  # noqa: S105 - of nobody.
CREDENTIALS = S3Credentials("AKIAEXAMPLE", SecretStr(SECRET), SecretStr(TOKEN))

USES: dict[str, Callable[[Store], object]] = {
    "list": lambda store: list(store.list_objects()),
    "get": lambda store: store.get("a.jpg"),
    "range": lambda store: store.get_range("a.jpg", offset=0, length=1),
    "head": lambda store: store.head("a.jpg"),
    "put": lambda store: store.put("a.jpg", b"x"),
    "create": lambda store: store.create("a.jpg", b"x"),
    "delete": lambda store: store.delete(["a.jpg"]),
}

every_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


def impatient(endpoint_url: str) -> Settings:
    """Settings with which a server that is down is given up in a second or two."""
    return Settings(
        s3_endpoint_url=endpoint_url,
        s3_region="us-east-1",
        s3_connect_timeout_s=0.5,
        s3_read_timeout_s=0.5,
        s3_max_retries=1,
        s3_retry_timeout_s=2,
    )


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Run a server that gives one answer to everything, and yield its endpoint URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = do_HEAD = answer  # noqa: N815 - http.server names them.

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def hanging() -> Iterator[str]:
    """Take connections and never answer, and yield the endpoint URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def everything_shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@every_use
def test_wrong_credentials_are_an_access_error(
    use: Callable[[Store], object], s3_uri: str, s3_settings: Settings
) -> None:
    store = open_store(s3_uri, settings=s3_settings, credentials=CREDENTIALS)
    with pytest.raises(AccessError, match="check the credentials") as caught:
        use(store)
    assert s3_uri in str(caught.value)
    assert SECRET not in everything_shown(caught.value)


def test_a_refused_request_names_the_key_and_the_reason(s3_uri: str, s3_settings: Settings) -> None:
    store = open_store(s3_uri, settings=s3_settings, credentials=CREDENTIALS)
    with pytest.raises(AccessError, match=r"may not get a\.jpg: InvalidAccessKeyId.*HTTP 403"):
        store.get("a.jpg")


@every_use
def test_a_bucket_that_is_not_there_is_an_access_error(
    use: Callable[[Store], object], s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    store = open_store("s3://no-such-bucket", settings=s3_settings, credentials=s3_credentials)
    with pytest.raises(AccessError, match=r"no-such-bucket: .* there is no such bucket"):
        use(store)


@every_use
def test_a_server_that_is_down_is_a_store_error_within_bounds(
    use: Callable[[Store], object],
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        store = open_store("s3://bucket", settings=impatient(endpoint_url), credentials=CREDENTIALS)
        begin = time.monotonic()
        with pytest.raises(StoreError, match="s3://bucket: cannot") as caught:
            use(store)
    assert caught.value.retryable
    assert time.monotonic() - begin < 10
    assert SECRET not in everything_shown(caught.value)


@every_use
def test_a_server_that_never_answers_is_a_store_error_within_bounds(
    use: Callable[[Store], object],
) -> None:
    with hanging() as endpoint_url:
        store = open_store("s3://bucket", settings=impatient(endpoint_url), credentials=CREDENTIALS)
        begin = time.monotonic()
        with pytest.raises(StoreError, match="s3://bucket: cannot") as caught:
            use(store)
    assert caught.value.retryable
    assert time.monotonic() - begin < 15


def test_a_server_that_stops_and_the_store_that_was_open() -> None:
    with SeaweedFS() as server:
        server.create_bucket("short-lived")
        store = open_store(
            "s3://short-lived",
            settings=impatient(server.endpoint_url),
            credentials=S3Credentials(server.access_key, SecretStr(server.secret_key)),
        )
        store.put("a", b"1")
        server.stop()
        with pytest.raises(StoreError) as caught:
            store.put("a", b"2")
    assert caught.value.retryable


@every_use
def test_what_s3_repeats_of_a_request_is_not_shown(use: Callable[[Store], object]) -> None:
    # As AWS answers to a signature that does not match.
    body = (
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>SignatureDoesNotMatch</Code>"
        "<Message>The signature does not match.</Message><CanonicalRequest>GET /a "
        f"x-amz-security-token:{TOKEN}</CanonicalRequest></Error>"
    )
    with answering(403, body) as endpoint_url:
        store = open_store("s3://bucket", settings=impatient(endpoint_url), credentials=CREDENTIALS)
        with pytest.raises(AccessError) as caught:
            use(store)
    assert TOKEN not in everything_shown(caught.value)


def test_a_server_error_is_retried_and_then_a_store_error_with_its_code() -> None:
    body = "<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>"
    with answering(503, body) as endpoint_url:
        store = open_store("s3://bucket", settings=impatient(endpoint_url), credentials=CREDENTIALS)
        with pytest.raises(StoreError, match="SlowDown: Please reduce your rate") as caught:
            store.put("a.jpg", b"x")
    assert caught.value.retryable


def test_credentials_that_cannot_be_renewed_are_an_access_error(s3_settings: Settings) -> None:
    store = S3Store(BUCKET, settings=s3_settings, credentials=CREDENTIALS)
    # The next request asks for credentials, and the session has none.
    store._connection.session.get_credentials().access_key = None
    with pytest.raises(AccessError, match="credential"):
        store.get("a.jpg")


def test_keys_that_no_store_can_hold_do_not_end_a_listing(
    seaweedfs: SeaweedFS, s3_settings: Settings, s3_credentials: S3Credentials, s3_uri: str
) -> None:
    prefix = s3_uri.rpartition("/")[2]
    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=seaweedfs.endpoint_url,
        aws_access_key_id=seaweedfs.access_key,
        aws_secret_access_key=seaweedfs.secret_key,
    )
    for name in ("a.jpg", "marker/", "new\nline.jpg", "\x01.jpg", "z.jpg"):
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=b"")
    client.close()
    store = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    skipped: dict[str, str] = {}
    listed = list(store.list_objects(on_skipped=skipped.__setitem__))
    assert [info.key for info in listed] == ["a.jpg", "z.jpg"]
    assert skipped.keys() == {"new\nline.jpg", "\x01.jpg"}


LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
<Contents><Key>p/</Key><Size>0</Size><ETag>"0"</ETag></Contents>
<Contents><Key>p/%2Fb.jpg</Key><Size>1</Size><ETag>"1"</ETag></Contents>
<Contents><Key>p/a%2F%2Fb.jpg</Key><Size>1</Size><ETag>"2"</ETag></Contents>
<Contents><Key>p/dogs+and%20cats/</Key><Size>0</Size><ETag>"3"</ETag></Contents>
<Contents><Key>p/full/</Key><Size>7</Size><ETag>"4"</ETag></Contents>
<Contents><Key>p/z+z.jpg</Key><Size>1</Size><ETag>"5"</ETag>
<LastModified>no date</LastModified></Contents>
</ListBucketResult>"""


def test_a_listing_as_aws_gives_it_is_read_with_its_oddities() -> None:
    with answering(200, LISTING) as endpoint_url:
        store = open_store(
            "s3://bucket/p", settings=impatient(endpoint_url), credentials=CREDENTIALS
        )
        skipped: dict[str, str] = {}
        listed = list(store.list_objects(on_skipped=skipped.__setitem__))
    assert [(info.key, info.size, info.etag) for info in listed] == [("z z.jpg", 1, "5")]
    assert skipped.keys() == {"/b.jpg", "a//b.jpg", "full/"}


def test_a_prefix_counts_towards_the_limit_of_a_key(s3_settings: Settings) -> None:
    store = S3Store(BUCKET, "p" * 1000, settings=s3_settings, credentials=CREDENTIALS)
    with pytest.raises(InvalidKeyError, match="1025 bytes"):
        store.put("k" * 24, b"")


def test_an_anonymous_caller_sends_no_signature(s3_settings: Settings) -> None:
    anonymous = s3_settings.model_copy(update={"s3_anonymous": True})
    store = S3Store(BUCKET, settings=anonymous, credentials=CREDENTIALS)
    for use in (USES["get"], USES["list"]):
        with pytest.raises(AccessError, match="AccessDenied"):
            use(store)


def test_a_right_to_delete_that_is_missing_is_named_as_one(
    s3_settings: Settings, s3_credentials: S3Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        # As obstore says it of one key in a request for many, which S3 answers with HTTP 200.
        raise GenericError(
            "Generic S3 error: DeleteObjects request failed for key a.jpg: Access Denied "
            "(code: AccessDenied)"
        )

    monkeypatch.setattr(obstore, "delete", refuse)
    store = S3Store(BUCKET, settings=s3_settings, credentials=s3_credentials)
    with pytest.raises(AccessError, match="check the credentials"):
        store.delete(["a.jpg"])


def test_browsers_are_told_what_an_object_is(
    seaweedfs: SeaweedFS, s3_settings: Settings, s3_credentials: S3Credentials, s3_uri: str
) -> None:
    store = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    store.put("a.JPG", b"x")
    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=seaweedfs.endpoint_url,
        aws_access_key_id=seaweedfs.access_key,
        aws_secret_access_key=seaweedfs.secret_key,
    )
    head = client.head_object(Bucket=BUCKET, Key=f"{s3_uri.rpartition('/')[2]}/a.JPG")
    client.close()
    assert head["ContentType"] == "image/jpeg"


@pytest.mark.parametrize(
    ("endpoint_url", "path_style", "expected"),
    [
        (None, None, None),
        ("https://s3.lab", None, "https://s3.lab"),
        ("https://s3.lab:9000", False, "https://bucket.s3.lab:9000"),
    ],
)
def test_a_custom_endpoint_is_addressed_by_path_unless_told_otherwise(
    *, endpoint_url: str | None, path_style: bool | None, expected: str | None
) -> None:
    settings = Settings(s3_endpoint_url=endpoint_url, s3_path_style=path_style)
    store = S3Store("bucket", settings=settings, credentials=CREDENTIALS)
    assert store._client.config.get("endpoint") == expected


def test_the_region_is_given_or_set_or_us_east_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    given = S3Credentials("AKIAEXAMPLE", SecretStr(SECRET), region="eu-west-3")
    settings = Settings(s3_region="eu-north-1")
    regions = [
        S3Store("bucket", settings=settings, credentials=given)._connection.region,
        S3Store("bucket", settings=settings, credentials=CREDENTIALS)._connection.region,
    ]
    assert regions == ["eu-west-3", "eu-north-1"]


def test_many_threads_share_one_store(
    s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    store = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    barrier = threading.Barrier(16)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            for turn in range(5):
                key = f"{number}/{turn}"
                store.put(key, key.encode())
                assert store.get(key).data == key.encode()
                assert [info.key for info in store.list_objects(f"{number}/")][-1] == key
                with pytest.raises(ObjectMissingError):
                    store.head(f"{key}/none")
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread.
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_a_process_that_was_forked_off_reads_and_lists(
    s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    store = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    store.put("ten", b"0123456789")
    info = store.get("ten").info
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=lambda: sender.send(_read_in_every_way(s3_uri, s3_settings, s3_credentials))
    )
    process.start()
    assert receiver.poll(60), "the forked process neither reads nor fails"
    errors = ["ObjectMissingError", "ObjectMissingError", "StoreError", "StoreError", "StoreError"]
    assert receiver.recv() == (b"0123456789", info, b"345", *errors, 1)
    process.join()


def _read_in_every_way(uri: str, settings: Settings, credentials: S3Credentials) -> object:
    store = open_store(uri, settings=settings, credentials=credentials)
    whole = store.get("ten")
    errors = []
    for read in (
        lambda: store.get("none"),
        lambda: store.head("none"),
        lambda: store.get_range("ten", offset=8, length=5),
        lambda: store.put("new", b""),
        lambda: store.delete(["ten"]),
    ):
        try:
            read()
        except StoreError as error:
            errors.append(type(error).__name__)
    middle = store.get_range("ten", offset=3, length=3)
    assert store.head("ten") == whole.info
    return (whole.data, whole.info, middle, *errors, len(list(store.list_objects())))
