"""The forms of the flows: every field with its title, a line of help, its range and its default.

A form is a model, and :func:`asks` gives a flow its fields as parameters: Prefect draws them,
refuses wrong values by name when the form is submitted, and again when the run starts. It draws
flat models, closed sets and bounded numbers well, and unions not, so there are none.
"""

from pathlib import PurePosixPath
from typing import Literal, Self, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from flows.form._fields import Fields, asks
from flows.form._recipe import RecipeFields
from flows.places import Places
from kaleidoscope.settings import Settings

__all__ = ["AugmentForm", "ExecutionName", "MaintainForm", "PreviewForm", "asks", "run_title"]

ExecutionName: TypeAlias = Literal["local", "work-pool"]
MaintenanceJob: TypeAlias = Literal["verify", "prune"]


class _Photographs(Fields):
    source: str = Field(
        min_length=1,
        title="Source",
        description="Where the photographs are: s3://bucket/prefix, a folder, or "
        "block://name/prefix of an S3 Bucket block. Sub-folders become labels.",
    )
    destination: str = Field(
        min_length=1,
        title="Destination",
        description="Where the images and their manifest go, written in the same ways; not inside "
        "the photographs' folder.",
    )


class _Access(Fields):
    aws_credentials: str = Field(
        default="",
        title="AWS credentials",
        description="Name of an AWS Credentials block. Empty takes the usual AWS chain.",
    )
    endpoint_url: str = Field(
        default="",
        title="S3 endpoint",
        description="URL of an S3 server that is not AWS. Empty takes the block's or the "
        "environment's.",
    )

    @field_validator("endpoint_url")
    @classmethod
    def _is_endpoint(cls, url: str) -> str:
        return (Settings(s3_endpoint_url=url).s3_endpoint_url or "") if url else ""

    def places(self) -> Places:
        """Return what opens the stores.

        Raises:
            SettingsError: If a block is missing or a setting is malformed.
        """
        return Places(self.aws_credentials or None, endpoint_url=self.endpoint_url or None)


class _Patience(Fields):
    wait_minutes: float = Field(
        default=10.0,
        ge=0,
        le=24 * 60,
        title="Patience with another run, in minutes",
        description="How long to wait for one that is at work in this destination, up to 1440. "
        "0 fails at once and names it.",
    )


class _Dispatch(_Patience):
    pending_limit_s: float = Field(
        default=300.0,
        gt=0,
        le=24 * 3600,
        title="Patience with a start, in seconds",
        description="A shard's run that gets no pod for so long is given up, and another started.",
    )
    shard_time_limit_s: float = Field(
        default=3600.0,
        gt=0,
        le=24 * 3600,
        title="Patience with a shard, in seconds",
        description="The same for one that takes longer to do its shard.",
    )
    execution: ExecutionName = Field(
        default="local",
        title="Where shards run",
        description="work-pool: each as a run of the shard deployment. local: inside this run.",
    )
    shard_deployment: str = Field(
        default="augment-shard/process",
        min_length=3,
        title="Shard deployment",
        description="Its flow and name; set by the deployment.",
    )


def run_title(source: str, recipe_name: str) -> str:
    """Return what a run is called in lists: the data set's folder and the recipe's name."""
    path = PurePosixPath(unquote(urlsplit(source).path) or "/")
    return f"{path.name or urlsplit(source).netloc or 'images'}-{recipe_name}"


# Fields are drawn in the order of the bases, the last one first.
class AugmentForm(_Dispatch, _Access, RecipeFields, _Photographs):
    """What a run is asked to do."""

    @model_validator(mode="after")
    def _patient_enough(self) -> Self:
        if self.execution == "work-pool" and 60 * self.shard_minutes > self.shard_time_limit_s:
            raise ValueError(
                f"shard_minutes is {self.shard_minutes:g}, and a shard is given up after "
                f"shard_time_limit_s = {self.shard_time_limit_s:g} seconds; raise that, or make "
                "shards smaller"
            )
        return self


class _Previewed(_Photographs):
    destination: str = Field(
        default="",
        title="Destination",
        description="Where images would go. What is done there is left out of the plan; nothing is "
        "written. Empty plans for a destination that is empty.",
    )
    image: str = Field(
        default="",
        title="Photograph",
        description="The one to show: its path below the source, or its full s3://bucket/key. "
        "Empty takes the first that can be read.",
    )

    @field_validator("image")
    @classmethod
    def _without_blanks(cls, image: str) -> str:
        return image.strip()


class PreviewForm(_Access, RecipeFields, _Previewed):
    """What is to be shown: the form of a run, of which nothing is made."""


class _Maintained(Fields):
    destination: str = Field(
        min_length=1,
        title="Destination",
        description="Where the images and their manifest are: s3://bucket/prefix, a folder, or "
        "block://name/prefix of an S3 Bucket block.",
    )
    source: str = Field(
        default="",
        title="Source",
        description="Where the photographs are, if a block has to open it: block://name/prefix. "
        "Empty takes the place that the runs recorded.",
    )
    job: MaintenanceJob = Field(
        default="verify",
        title="What to do",
        description="verify: compare every image with the manifest, and fail if something is "
        "wrong. prune: find images whose photograph went away, was replaced or failed.",
    )
    sample: float = Field(
        default=1.0,
        ge=0,
        le=1,
        title="verify: share of the images to read",
        description="0 to 1: 0.01 reads every hundredth and compares its hash; 0 only looks "
        "whether all are there with their size.",
    )
    replay: bool = Field(
        default=False,
        title="verify: make them again",
        description="Make the images that are read from their photographs again, and compare.",
    )
    repair: bool = Field(
        default=False,
        title="verify: repair",
        description="Read every image, and make those that are missing or damaged again, where "
        "they get the bytes that were recorded.",
    )
    delete: bool = Field(
        default=False,
        title="prune: delete",
        description="Off says what would go and touches nothing. On deletes it, for good.",
    )


class MaintainForm(_Patience, _Access, _Maintained):
    """What is to be done with a data set."""

    @model_validator(mode="after")
    def _fits_the_job(self) -> Self:
        if self.job == "verify" and self.delete:
            raise ValueError(
                "delete is on, and job is verify, which deletes nothing; set job=prune, or turn "
                "delete off"
            )
        if self.job == "prune" and self.repair:
            raise ValueError(
                "repair is on, and job is prune, which repairs nothing; set job=verify, or turn "
                "repair off"
            )
        return self
