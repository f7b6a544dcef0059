"""Servers and stores that tests of more than one folder use."""

import uuid
from collections.abc import Iterator

import hypothesis
import pytest
from pydantic import SecretStr

from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials
from tools.seaweedfs import SeaweedFS

BUCKET = "kaleidoscope-tests"

WITH_PREFECT = frozenset({"browser", "cluster", "flows"})
"""Folders of tests after which this process has Prefect's exit hooks."""

# A busy machine may hold a test up for longer than the 200 ms that hypothesis allows.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests with Prefect come last: a process forked off after them ends with an error."""
    items.sort(key=lambda item: item.path.parent.name in WITH_PREFECT)


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """A real S3 server with one empty bucket, for the whole session."""
    with SeaweedFS() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def s3_settings(seaweedfs: SeaweedFS) -> Settings:
    """Settings that lead to the server, whatever the environment says."""
    return Settings(s3_endpoint_url=seaweedfs.endpoint_url, s3_region="us-east-1")


@pytest.fixture(scope="session")
def s3_credentials(seaweedfs: SeaweedFS) -> S3Credentials:
    """Credentials of the server's one identity."""
    return S3Credentials(seaweedfs.access_key, SecretStr(seaweedfs.secret_key))


@pytest.fixture
def s3_uri() -> str:
    """A prefix that no other test uses."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
