"""What the form of a flow asks for, and how it is turned into values of the library.

Prefect's forms cope with scalars, bounds and closed sets; a recipe is more than that, so it comes
as the name of a preset, as text, or as the place of a file.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr

from kaleidoscope.errors import SettingsError
from kaleidoscope.recipe import Recipe
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, Store, open_store

ExecutionName: TypeAlias = Literal["local", "work-pool"]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**53)]
ErrorRate: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Replicas: TypeAlias = Annotated[int, Field(ge=1, le=200)]
Minutes: TypeAlias = Annotated[float, Field(gt=0, le=24 * 60)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=24 * 3600)]
Workers: TypeAlias = Annotated[int, Field(ge=1, le=256)]

RECIPE_SUFFIXES = (".yaml", ".yml", ".json")


class Places:
    """Opens stores with one Prefect block's credentials, or along the AWS chain."""

    def __init__(self, aws_credentials: str | None) -> None:
        """Load the block.

        Args:
            aws_credentials: Name of an ``AwsCredentials`` block; None takes the AWS chain.

        Raises:
            SettingsError: If there is no such block, or a setting is malformed.
        """
        self._settings = Settings.from_environment()
        self._credentials = None if aws_credentials is None else _load(aws_credentials)

    def open(self, uri: str) -> Store:
        """Return the store at ``uri``.

        Raises:
            SettingsError: If the URI is malformed or there are no credentials.
        """
        return open_store(uri, settings=self._settings, credentials=self._credentials)

    def recipe(self, text: str) -> Recipe:
        """Return the recipe that a form means.

        Args:
            text: The name of a preset, YAML or JSON, or the place of a file that ends in
                ``.yaml``, ``.yml`` or ``.json``.

        Raises:
            RecipeError: If it is none of these, or not a recipe.
            StoreError: If the file cannot be read.
        """
        text = text.strip()
        if "\n" in text or text.startswith("{"):
            return Recipe.from_text(text)
        if text.endswith(RECIPE_SUFFIXES):
            folder, _, name = text.rpartition("/")
            data = self.open(folder or ".").get(name).data
            return Recipe.from_text(data.decode("utf-8", errors="replace"), origin=text)
        return Recipe.preset(text)


def with_overrides(recipe: Recipe, *, seed: int | None, max_error_rate: float | None) -> Recipe:
    """Return the recipe with what the form says in its place; None keeps the recipe's own."""
    limits = recipe.limits
    if max_error_rate is not None:
        limits = limits.model_copy(update={"max_error_rate": max_error_rate})
    seed = recipe.seed if seed is None else seed
    return recipe.model_copy(update={"seed": seed, "limits": limits})


def run_title(source: str, recipe: str) -> str:
    """Return what a run is called in lists: the data set's folder and the recipe's name."""
    path = PurePosixPath(unquote(urlsplit(source).path) or "/")
    data_set = path.name or urlsplit(source).netloc or "images"
    is_text = "\n" in recipe or recipe.lstrip().startswith("{")
    return f"{data_set}-{'recipe' if is_text else PurePosixPath(recipe.strip()).stem}"


def _load(name: str) -> S3Credentials:
    # Importing it takes most of a second, which every shard without a block is spared.
    from prefect_aws import AwsCredentials  # noqa: PLC0415

    try:
        # A coroutine only where an event loop runs, and flows here are synchronous.
        block = cast(AwsCredentials, AwsCredentials.load(name))
    except ValueError as error:
        raise SettingsError(
            f"no AwsCredentials block is called {name!r}: {error}; make it in the Prefect UI "
            "under Blocks, or leave the name empty to take the AWS chain"
        ) from error
    endpoint_url = block.aws_client_parameters.endpoint_url
    if block.assume_role_arn is None:
        return S3Credentials(
            access_key_id=block.aws_access_key_id,
            secret_access_key=block.aws_secret_access_key,
            session_token=_secret(block.aws_session_token),
            profile=block.profile_name,
            region=block.region_name,
            endpoint_url=endpoint_url,
        )
    # The block's own session asks for the role; what it gets lasts an hour or as the block says.
    role = block.get_boto3_session().get_credentials().get_frozen_credentials()
    return S3Credentials(
        access_key_id=role.access_key,
        secret_access_key=_secret(role.secret_key),
        session_token=_secret(role.token),
        region=block.region_name,
        endpoint_url=endpoint_url,
    )


def _secret(value: str | None) -> SecretStr | None:
    return None if value is None else SecretStr(value)
