"""What a user may choose about the cluster, and how the choice is remembered."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from infra.aws.errors import AwsError

NEW_BUCKET = ""
"""For a bucket that Kaleidoscope makes and names itself."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The parameters of the stacks that are for people to choose.

    Each field is a stack parameter of the same name in CamelCase, which is where an option that was
    chosen once is remembered.
    """

    source_bucket: str = NEW_BUCKET
    source_prefix: str = ""
    """Folders with a slash at the end; empty is the whole bucket."""

    destination_bucket: str = NEW_BUCKET
    destination_prefix: str = ""
    """Folders with a slash at the end; empty is the whole bucket."""

    system_instance_type: str = "m6i.large"
    shard_instance_types: str = "c5.xlarge,c5a.xlarge,c6i.xlarge,c6a.xlarge,c7i.xlarge,c7a.xlarge"
    """Separated by commas, all with the same CPUs and memory."""

    max_shard_nodes: str = "10"
    api_cidrs: str = "0.0.0.0/0"
    """Who may reach the Kubernetes API, separated by commas."""

    @classmethod
    def from_choices(
        cls, chosen: Mapping[str, str | None], remembered: Mapping[str, str] | None = None
    ) -> Self:
        """Take what was chosen now, else what the stacks have, else the default.

        Args:
            chosen: By name of the field; None was not chosen.
            remembered: By name of the stack parameter.

        Raises:
            AwsError: If shards could write to where they read from.
        """
        values = {}
        for name in (field.name for field in fields(cls)):
            value = chosen.get(name)
            if value is None:
                value = (remembered or {}).get(to_parameter(name))
            if value is not None:
                values[name] = _as_folder(value) if name.endswith("_prefix") else value.strip()
        options = cls(**values)
        options._check()
        return options

    @property
    def shard_types(self) -> tuple[str, ...]:
        """The instance types of shard nodes."""
        return tuple(part.strip() for part in self.shard_instance_types.split(","))

    def _check(self) -> None:
        if not self.max_shard_nodes.isdigit() or not 1 <= int(self.max_shard_nodes) <= 200:  # noqa: PLR2004 - the template's.
            raise AwsError(f"--max-shard-nodes is 1 to 200, not {self.max_shard_nodes}")
        same = self.source_bucket and self.source_bucket == self.destination_bucket
        if same and self.source_prefix.startswith(self.destination_prefix):
            raise AwsError(
                f"pods may write to s3://{self.destination_bucket}/{self.destination_prefix}, and "
                f"the source s3://{self.source_bucket}/{self.source_prefix} lies in it; choose "
                "another --destination-prefix or another bucket"
            )


def to_parameter(field: str) -> str:
    """Return the stack parameter of an option: ``source_bucket`` is ``SourceBucket``."""
    return field.title().replace("_", "")


def _as_folder(prefix: str) -> str:
    prefix = prefix.strip().strip("/")
    return f"{prefix}/" if prefix else ""
