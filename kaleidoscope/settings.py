"""What the environment says: the only module that reads it.

Who opens a place by its URI makes one :class:`Settings` and passes it down: ``cli``, ``flows``,
``api``, ``Lineage.open`` and the loaders, these in the process that reads.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from kaleidoscope.errors import SettingsError


def _check_endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("an endpoint holds no user or password; use credentials")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an endpoint is http://host:port or https://host:port")
    return url.rstrip("/")


class Settings(BaseSettings):
    """How to reach the stores; every field is the variable ``KALEIDOSCOPE_`` + its name.

    The second names are those of the AWS tools. Credentials are no settings: they come from the
    AWS chain (see :mod:`kaleidoscope.stores`) or are passed in.
    """

    model_config = SettingsConfigDict(
        env_prefix="KALEIDOSCOPE_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    s3_endpoint_url: Annotated[str, AfterValidator(_check_endpoint)] | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "KALEIDOSCOPE_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"
        ),
    )
    """Of an S3 server that is not AWS, such as ``http://127.0.0.1:8333``; None is AWS."""

    s3_region: str | None = Field(
        default=None,
        validation_alias=AliasChoices("KALEIDOSCOPE_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
    )
    """None takes that of the AWS profile, or else ``us-east-1``."""

    s3_path_style: bool | None = None
    """``endpoint/bucket/key`` (true) or ``bucket.endpoint/key``; None is right for AWS and most."""

    s3_anonymous: bool = False
    """Sign nothing, for buckets that are open to all."""

    s3_ca_bundle: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("KALEIDOSCOPE_S3_CA_BUNDLE", "AWS_CA_BUNDLE"),
    )
    """PEM file of certificate authorities to trust beside the usual ones."""

    s3_connect_timeout_s: float = Field(default=5, gt=0)
    """Seconds to connect, per attempt."""

    s3_read_timeout_s: float = Field(default=20, gt=0)
    """Seconds without a byte of an answer, per attempt."""

    s3_max_retries: int = Field(default=8, ge=0)
    """Attempts after the first, with growing pauses; for a page of a listing, at most 5."""

    s3_retry_timeout_s: float = Field(default=45, gt=0)
    """Seconds after which no new attempt begins, but for a page of a listing."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises:
            SettingsError: With the name of each variable that is malformed, and why.
        """
        try:
            return cls()
        except ValidationError as error:
            reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise SettingsError(f"the environment is wrong: {'; '.join(reasons)}") from error


def available_cpus(
    *, membership: Path = Path("/proc/self/cgroup"), hierarchy: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return how many CPUs this process may use, at least 1.

    The least of: the CPUs of the machine, those of the process's affinity mask, and the CPU
    quotas of its control groups (a container's ``limits.cpu``), a fraction rounded up.

    Args:
        membership: The file that names the process's control groups, version 1 and 2.
        hierarchy: Where the control groups are mounted.
    """
    if hasattr(os, "sched_getaffinity"):
        num_cpus = len(os.sched_getaffinity(0))
    else:  # macOS has no masks.
        num_cpus = os.cpu_count() or 1
    quotas = [
        quota
        for folder in _cpu_groups(membership, hierarchy)
        for quota in (_quota_v2(folder), _quota_v1(folder))
        if quota is not None
    ]
    return max(1, min([num_cpus, *map(math.ceil, quotas)]))


def _cpu_groups(membership: Path, hierarchy: Path) -> list[Path]:
    """Return the folders of the process's CPU groups and of all groups above them.

    A line is ``id:controllers:path`` (cgroups(7)); version 2 has no controllers. In a container
    the path may be the host's and not be mounted, but the mount's top is then its own group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = hierarchy / "cpu" if controllers else hierarchy
        group = top / path.lstrip("/")
        folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return folders


def _quota_v2(folder: Path) -> float | None:
    """Read ``cpu.max``: ``max 100000`` or microseconds of CPU in each period."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    """Read the same from version 1, where -1 is no limit."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
