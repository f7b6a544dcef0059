"""Roles that are taken, and taken again while a run lasts."""

from collections.abc import Iterator

import botocore.session
import pytest
from moto import mock_aws
from pydantic import SecretStr

from kaleidoscope.errors import SettingsError
from kaleidoscope.settings import Settings
from kaleidoscope.stores import AssumedRole, S3Credentials
from kaleidoscope.stores._s3_connection import S3Connection

ROLE = "arn:aws:iam::123456789012:role/augment"
SHORTEST_S = 900
"""STS gives no shorter time. botocore renews a role in its last 15 minutes, so at each use."""


@pytest.fixture(autouse=True)
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def connect(role: AssumedRole) -> S3Connection:
    credentials = S3Credentials("AKIAEXAMPLE", SecretStr("of-nobody"), role=role)
    return S3Connection.from_settings("bucket", Settings(), credentials)


def key_of(session: botocore.session.Session) -> str:
    key = session.get_credentials().get_frozen_credentials().access_key
    assert isinstance(key, str)
    return key


def test_a_role_is_taken_with_the_keys() -> None:
    key = key_of(connect(AssumedRole(ROLE)).session)
    assert key.startswith("ASIA")


def test_a_role_is_kept_while_it_lasts() -> None:
    session = connect(AssumedRole(ROLE)).session
    assert key_of(session) == key_of(session)


def test_a_role_is_taken_again_before_its_time_is_over() -> None:
    session = connect(AssumedRole(ROLE, {"DurationSeconds": SHORTEST_S})).session
    assert key_of(session) != key_of(session)


def test_a_role_that_may_not_be_taken_is_named() -> None:
    with pytest.raises(SettingsError, match=f"the role {ROLE} cannot be taken"):
        connect(AssumedRole(ROLE, {"DurationSeconds": SHORTEST_S - 1}))


def test_a_role_that_asks_for_a_code_is_refused_without_asking() -> None:
    device = "arn:aws:iam::123456789012:mfa/someone"
    with pytest.raises(SettingsError, match=f"MFA device {device}"):
        connect(AssumedRole(ROLE, {"SerialNumber": device, "TokenCode": "123456"}))
