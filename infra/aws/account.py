"""Whose account and which region the commands work on."""

from dataclasses import dataclass
from typing import Any, Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.aws.errors import AwsError


@dataclass(frozen=True, slots=True)
class Account:
    """An account as its caller sees it, in one region."""

    session: botocore.session.Session
    region: str

    number: str
    """Twelve digits."""

    caller: str
    """ARN of the user or role whose credentials these are."""

    @classmethod
    def from_session(cls, session: botocore.session.Session, region: str | None = None) -> Self:
        """Ask AWS who the caller is.

        Args:
            session: Finds credentials along the AWS chain.
            region: None takes that of the environment or the profile.

        Raises:
            AwsError: If there is no region, or the credentials are missing or not good.
        """
        region = region or session.get_config_variable("region")
        if not region:
            raise AwsError("no region: set AWS_REGION or pass --region, such as eu-central-1")
        try:
            client = session.create_client("sts", region_name=region)
            identity = client.get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise AwsError(f"no good AWS credentials: {error}; try `aws sso login`") from error
        return cls(session, region, identity["Account"], identity["Arn"])

    def connect(self, service: str) -> Any:
        """Return a client of a service in this region; throttled requests are tried again."""
        return self.session.create_client(
            service,
            region_name=self.region,
            config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
        )
