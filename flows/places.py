"""Opens what a form names: stores by their URIs and blocks, and recipes that lie in a store.

Credentials come from Prefect blocks, chosen by name, or along the AWS chain, and never stand in a
parameter.
"""

from typing import TYPE_CHECKING, TypeVar, cast

from prefect.blocks.core import Block
from pydantic import SecretStr

from kaleidoscope.errors import SettingsError
from kaleidoscope.recipe import Recipe
from kaleidoscope.settings import Settings
from kaleidoscope.stores import AssumedRole, S3Credentials, Store, open_store

if TYPE_CHECKING:
    from prefect_aws import AwsCredentials

RECIPE_SUFFIXES = (".yaml", ".yml", ".json")

BLOCK_SCHEME = "block://"
"""Begins a URI that names an ``S3Bucket`` block where others name a bucket."""

_Block = TypeVar("_Block", bound=Block)


class Places:
    """Opens stores with the credentials of Prefect blocks, or along the AWS chain."""

    def __init__(self, aws_credentials: str | None, *, endpoint_url: str | None = None) -> None:
        """Load the block.

        Args:
            aws_credentials: Name of an ``AwsCredentials`` block; None takes the AWS chain.
            endpoint_url: Of an S3 server that is not AWS; None takes the block's, or else the
                environment's.

        Raises:
            SettingsError: If there is no such block, or a setting is malformed.
        """
        settings = Settings.from_environment()
        if endpoint_url is not None:
            settings = settings.model_copy(update={"s3_endpoint_url": endpoint_url})
        self._settings = settings
        self._endpoint_url = endpoint_url
        self._credentials = None if aws_credentials is None else self._load(aws_credentials)

    def open(self, uri: str) -> Store:
        """Return the store at ``uri``.

        Args:
            uri: As :func:`kaleidoscope.stores.open_store` has it, or ``block://name/prefix``, a
                prefix of the bucket of an ``S3Bucket`` block, opened with its credentials.

        Raises:
            SettingsError: If the URI is malformed, there is no such block, or no credentials.
        """
        uri = uri.strip()
        if not uri.startswith(BLOCK_SCHEME):
            return open_store(uri, settings=self._settings, credentials=self._credentials)
        # Importing it takes most of a second, which every shard without a block is spared.
        from prefect_aws import AwsCredentials, S3Bucket  # noqa: PLC0415

        name, _, prefix = uri.removeprefix(BLOCK_SCHEME).partition("/")
        bucket = _load_block(S3Bucket, name)
        if not isinstance(bucket.credentials, AwsCredentials):
            raise SettingsError(
                f"the S3 Bucket block {name!r} holds {type(bucket.credentials).__name__}; give it "
                "an AWS Credentials block with the endpoint URL of the server"
            )
        folders = (bucket.bucket_name, bucket.bucket_folder.strip("/"), prefix)
        return open_store(
            "s3://" + "/".join(folder for folder in folders if folder),
            settings=self._settings,
            credentials=self._credentials_of(bucket.credentials),
        )

    def address(self, uri: str) -> str:
        """Return ``uri`` so that it means the same in another process, in another folder."""
        return uri.strip() if uri.strip().startswith(BLOCK_SCHEME) else self.open(uri).uri

    def recipe(self, text: str) -> Recipe:
        """Return the recipe that a form means.

        Args:
            text: YAML or JSON, the place of a file that ends in ``.yaml``, ``.yml`` or ``.json``,
                or the name of a preset.

        Raises:
            RecipeError: If it is none of these, or not a recipe.
            StoreError: If the file cannot be read.
        """
        text = text.strip()
        if is_recipe_text(text):
            return Recipe.from_text(text)
        if text.endswith(RECIPE_SUFFIXES):
            folder, _, name = text.rpartition("/")
            data = self.open(folder or ".").get(name).data
            return Recipe.from_text(data.decode("utf-8", errors="replace"), origin=text)
        return Recipe.preset(text)

    def _load(self, name: str) -> S3Credentials:
        from prefect_aws import AwsCredentials  # noqa: PLC0415

        return self._credentials_of(_load_block(AwsCredentials, name))

    def _credentials_of(self, block: "AwsCredentials") -> S3Credentials:
        endpoint_url = self._endpoint_url or block.aws_client_parameters.endpoint_url
        # The block's own session would take the role once, for an hour, and not again.
        role = None
        if block.assume_role_arn is not None:
            arguments = block.assume_role_kwargs.get_params_override()
            role = AssumedRole(block.assume_role_arn, arguments)
        return S3Credentials(
            access_key_id=block.aws_access_key_id,
            secret_access_key=block.aws_secret_access_key,
            session_token=_secret(block.aws_session_token),
            profile=block.profile_name,
            role=role,
            region=block.region_name,
            endpoint_url=endpoint_url,
        )


def is_recipe_text(recipe: str) -> bool:
    """Say whether this is a recipe itself, not the name of one."""
    return "\n" in recipe.strip() or recipe.lstrip().startswith("{")


def _load_block(kind: type[_Block], name: str) -> _Block:
    try:
        # A coroutine only where an event loop runs, and flows here are synchronous.
        return cast(_Block, kind.load(name))
    except ValueError as error:
        raise SettingsError(
            f"no {kind.__name__} block is called {name!r}: {error}; make it in the Prefect UI "
            "under Blocks, or leave the name empty to take the AWS chain"
        ) from error


def _secret(value: str | None) -> SecretStr | None:
    return None if value is None else SecretStr(value)
