from pathlib import Path

import pytest
from pydantic import SecretStr

from kaleidoscope.errors import SettingsError
from kaleidoscope.settings import Settings
from kaleidoscope.stores import InvalidKeyError, LocalStore, S3Credentials, S3Store, open_store

CREDENTIALS = S3Credentials("AKIAEXAMPLE", SecretStr("not-to-be-shown"), SecretStr("token-too"))


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which the AWS chain finds nothing, and asks no metadata server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.parametrize(
    "uri", ["photos", "photos/", "./photos", "file://{cwd}/photos", "FILE://localhost{cwd}/photos/"]
)
def test_paths_and_file_uris_open_a_folder(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(uri.format(cwd=tmp_path))
    assert isinstance(store, LocalStore)
    assert store.uri == str(tmp_path / "photos")


def test_a_file_uri_is_percent_decoded_and_a_path_is_not() -> None:
    assert open_store("file:///a%20b%23").uri == "/a b#"
    assert open_store("/a%20b#").uri == "/a%20b#"


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a b#c?d%20", "s3://bucket/a b#c?d%20"),
    ],
)
def test_an_s3_uri_opens_a_bucket(uri: str, canonical: str) -> None:
    store = open_store(uri, credentials=CREDENTIALS)
    assert isinstance(store, S3Store)
    assert store.uri == canonical


@pytest.mark.parametrize(
    "uri",
    [
        *("", "  ", "s3:/bucket", "s3:bucket", "file:/a", "gs://bucket", "https://host/x"),
        *("s3://", "s3:///prefix", "s3://a", "s3://bad bucket/x", "file://other-host/x"),
        *("file://", "file:///a?b", "file:///a#b"),
    ],
)
def test_what_is_no_store_is_an_error_that_says_what_is(uri: str) -> None:
    with pytest.raises(SettingsError, match=r"s3://|file://"):
        open_store(uri, credentials=CREDENTIALS)


@pytest.mark.parametrize("uri", ["https://u:hunter2@host/x", "s3://AKIA:hunter2@bucket/x"])
def test_a_password_in_a_uri_is_not_repeated(uri: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(uri)
    assert "hunter2" not in str(caught.value)


def test_a_prefix_follows_the_rule_for_keys() -> None:
    with pytest.raises(InvalidKeyError, match="s3://bucket cannot hold"):
        open_store("s3://bucket/a//b", credentials=CREDENTIALS)


def test_without_credentials_the_error_says_how_to_give_them() -> None:
    with pytest.raises(SettingsError, match=r"AWS_ACCESS_KEY_ID.*KALEIDOSCOPE_S3_ANONYMOUS"):
        open_store("s3://bucket")


def test_an_anonymous_caller_needs_no_credentials() -> None:
    assert open_store("s3://bucket", settings=Settings(s3_anonymous=True)).uri == "s3://bucket"


def test_credentials_come_in_pairs() -> None:
    with pytest.raises(SettingsError, match="come together"):
        open_store("s3://bucket", credentials=S3Credentials(access_key_id="AKIAEXAMPLE"))


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="nobody"):
        open_store("s3://bucket", credentials=S3Credentials(profile="nobody"))


def test_the_chain_finds_a_profile(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = AKIALAB\naws_secret_access_key = s\n"
    )
    assert open_store("s3://bucket", credentials=S3Credentials(profile="lab")).uri == "s3://bucket"


def test_a_ca_bundle_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = Settings(s3_ca_bundle=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        open_store("s3://bucket", settings=settings, credentials=CREDENTIALS)


def test_credentials_do_not_show_their_secrets() -> None:
    assert "not-to-be-shown" not in repr(CREDENTIALS)
    assert "token-too" not in repr(CREDENTIALS)


def test_a_folder_whose_name_is_not_utf8_is_refused() -> None:
    with pytest.raises(SettingsError, match="must be UTF-8"):
        open_store("out\udcff")
