"""How to reach a bucket: credentials, region and endpoint, for both clients that we use.

``obstore`` moves the data, at an eighth of boto3's CPU time. botocore lists, since obstore's
listing ends with an error at the first key that it cannot address, and botocore's does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as ObstoreS3
from pydantic import SecretStr

from kaleidoscope.errors import SettingsError
from kaleidoscope.settings import Settings

if TYPE_CHECKING:
    from obstore.store import BackoffConfig, ClientConfig, RetryConfig, S3Config

DEFAULT_REGION = "us-east-1"

_REQUEST_TIMEOUT = timedelta(minutes=5)
"""For one attempt with its body; a server that hangs is noticed by the read timeout."""

_CREDENTIAL_LIFE = timedelta(minutes=5)
"""botocore renews temporary credentials at the latest 10 minutes before their end, so what it
gives out is good for this long at least (``botocore.credentials.RefreshableCredentials``)."""

_MAX_LIST_RETRIES = 5
"""botocore has no limit on the time of all attempts, so that of their number is lower."""

_BACKOFF: "BackoffConfig" = {
    "init_backoff": timedelta(milliseconds=500),
    "max_backoff": timedelta(seconds=10),
    "base": 3,
}
"""Each pause is random, up to three times the one before; eight of them are about half a minute,
in which a server can restart."""


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """A role that is taken with other credentials, and taken again before its time is over."""

    arn: str

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Others of STS's AssumeRole, by the names that it has for them; ``DurationSeconds``, say."""


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Credentials that are given instead of found, as from a Prefect block; None is unset."""

    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None

    profile: str | None = None
    """A profile of the AWS configuration files, for the case that there is no key."""

    role: AssumedRole | None = None
    """Taken with the keys, the profile or what the AWS chain finds."""

    region: str | None = None
    endpoint_url: str | None = None


@dataclass(frozen=True, slots=True)
class S3Connection:
    """What is known of a bucket's place and of the caller before the first request."""

    bucket: str
    settings: Settings
    session: botocore.session.Session
    region: str
    endpoint_url: str | None

    @classmethod
    def from_settings(
        cls, bucket: str, settings: Settings, credentials: S3Credentials
    ) -> "S3Connection":
        """Find region and credentials; the latter along the AWS chain unless they are given.

        The chain is botocore's: environment, profile with SSO or a process, web identity,
        container, instance.

        Raises:
            SettingsError: If there are no credentials, half of them, no such profile, or the role
                cannot be taken.
        """
        try:
            session = botocore.session.Session(profile=credentials.profile)
            profile_region = session.get_config_variable("region")
            region = credentials.region or settings.s3_region or profile_region or DEFAULT_REGION
            _give_credentials(session, credentials)
            if not settings.s3_anonymous and session.get_credentials() is None:
                raise SettingsError(
                    f"no AWS credentials found for s3://{bucket}: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, log in to a profile, or set "
                    "KALEIDOSCOPE_S3_ANONYMOUS=true for a public bucket"
                )
            if credentials.role is not None:
                session = _take_role(credentials.role, session, region)
        except BotoCoreError as error:
            raise SettingsError(f"the AWS configuration is wrong: {error}") from error
        endpoint_url = credentials.endpoint_url or settings.s3_endpoint_url
        return cls(bucket, settings, session, region, endpoint_url)

    @property
    def path_style(self) -> bool:
        """Whether the bucket stands in the path of a URL and not in its host name."""
        if self.settings.s3_path_style is not None:
            return self.settings.s3_path_style
        # A dot in a bucket's name breaks the certificate of *.s3.region.amazonaws.com.
        return self.endpoint_url is not None or "." in self.bucket

    def make_data_client(self) -> ObstoreS3:
        """Return the client that moves data."""
        config: S3Config = {
            "region": self.region,
            "virtual_hosted_style_request": not self.path_style,
            "skip_signature": self.settings.s3_anonymous,
        }
        if self.endpoint_url is not None:
            config["endpoint"] = self._data_endpoint(self.endpoint_url)
        provider = None
        if not self.settings.s3_anonymous:
            # Also for keys that are given: else obstore would add a token that it finds in the
            # environment.
            provider = Boto3CredentialProvider(self.session, ttl=_CREDENTIAL_LIFE)
        return ObstoreS3(
            self.bucket,
            config=config,
            client_options=self._client_options(),
            retry_config=self._retry_config(),
            credential_provider=provider,
        )

    def make_list_client(self) -> Any:
        """Return the client that lists, a botocore client for S3."""
        # The time of each object is not used, and parsing it would take half of the time.
        self.session.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=str
        )
        bundle = self.settings.s3_ca_bundle
        return self.session.create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            verify=None if bundle is None else str(bundle),
            config=Config(
                connect_timeout=self.settings.s3_connect_timeout_s,
                read_timeout=self.settings.s3_read_timeout_s,
                retries={
                    "mode": "standard",
                    "total_max_attempts": 1 + min(self.settings.s3_max_retries, _MAX_LIST_RETRIES),
                },
                s3={"addressing_style": "path" if self.path_style else "virtual"},
                signature_version=botocore.UNSIGNED if self.settings.s3_anonymous else None,
                # obstore does not know those of the configuration files, so neither may this.
                ignore_configured_endpoint_urls=True,
            ),
        )

    def _data_endpoint(self, url: str) -> str:
        if self.path_style:
            return url
        parts = urlsplit(url)
        return parts._replace(netloc=f"{self.bucket}.{parts.netloc}").geturl()

    def _client_options(self) -> "ClientConfig":
        options: ClientConfig = {
            "allow_http": self.endpoint_url is not None and self.endpoint_url.startswith("http:"),
            "connect_timeout": timedelta(seconds=self.settings.s3_connect_timeout_s),
            "read_timeout": timedelta(seconds=self.settings.s3_read_timeout_s),
            "timeout": _REQUEST_TIMEOUT,
        }
        if self.settings.s3_ca_bundle is not None:
            try:
                options["root_certificate"] = self.settings.s3_ca_bundle.read_bytes()
            except OSError as error:
                raise SettingsError(
                    f"cannot read the CA bundle {self.settings.s3_ca_bundle}: {error.strerror}"
                ) from error
        return options

    def _retry_config(self) -> "RetryConfig":
        return {
            "max_retries": self.settings.s3_max_retries,
            "retry_timeout": timedelta(seconds=self.settings.s3_retry_timeout_s),
            "backoff": _BACKOFF,
        }


def _give_credentials(session: botocore.session.Session, credentials: S3Credentials) -> None:
    if credentials.access_key_id is None and credentials.secret_access_key is None:
        return
    if credentials.access_key_id is None or credentials.secret_access_key is None:
        raise SettingsError("an access key id and a secret access key come together; one is unset")
    token = credentials.session_token
    session.set_credentials(
        credentials.access_key_id,
        credentials.secret_access_key.get_secret_value(),
        None if token is None else token.get_secret_value(),
    )


class _RoleProvider(CredentialProvider):  # type: ignore[misc] # botocore has no types.
    METHOD = "assume-role"

    def __init__(self, fetcher: AssumeRoleCredentialFetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._fetcher.fetch_credentials, self.METHOD)


def _take_role(
    role: AssumedRole, session: botocore.session.Session, region: str
) -> botocore.session.Session:
    """Return a session whose credentials are the role's, renewed for as long as it is used."""
    if "SerialNumber" in role.arguments:
        raise SettingsError(
            f"the role {role.arn} is to be taken with the MFA device "
            f"{role.arguments['SerialNumber']}, whose code nobody is here to type; use a role that "
            "asks for none, or give the keys of a session"
        )
    fetcher = AssumeRoleCredentialFetcher(
        partial(session.create_client, region_name=region),
        session.get_credentials(),
        role.arn,
        extra_args=dict(role.arguments),
    )
    taken = botocore.session.Session()
    resolver = CredentialResolver(providers=[_RoleProvider(fetcher)])
    taken.register_component("credential_provider", resolver)
    try:
        taken.get_credentials().get_frozen_credentials()
    except (BotoCoreError, ClientError) as error:
        raise SettingsError(f"the role {role.arn} cannot be taken: {error}") from error
    return taken
