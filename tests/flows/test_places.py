"""What a form says, turned into values of the library."""

from pathlib import Path

import pytest
from prefect_aws import AwsCredentials
from prefect_aws.assume_role_parameters import AssumeRoleParameters
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from flows.places import Places
from kaleidoscope.errors import RecipeError, SettingsError
from kaleidoscope.recipe import Recipe
from tools.prefect_server import PrefectServer
from tools.seaweedfs import SeaweedFS

TEXT = "transforms: [Rotate]\nseed: 7"


def test_a_recipe_may_be_a_preset_a_text_or_a_file(tmp_path: Path) -> None:
    places = Places(None)
    (tmp_path / "mine.yaml").write_text(TEXT)
    wanted = Recipe.from_text(TEXT)
    assert places.recipe("classic") == Recipe.preset("classic")
    assert places.recipe(TEXT) == wanted
    assert places.recipe('{"transforms": ["Rotate"], "seed": 7}') == wanted
    assert places.recipe(str(tmp_path / "mine.yaml")) == wanted


def test_an_unknown_recipe_is_refused_with_the_presets_there_are() -> None:
    with pytest.raises(RecipeError, match=r"'clasic'.*classic"):
        Places(None).recipe("clasic")


def test_a_block_leads_to_its_server(
    server: PrefectServer,  # noqa: ARG001 - keeps the block.
    seaweedfs: SeaweedFS,
    s3_uri: str,
) -> None:
    block = AwsCredentials(
        aws_access_key_id=seaweedfs.access_key,
        aws_secret_access_key=SecretStr(seaweedfs.secret_key),
        aws_client_parameters=AwsClientParameters(endpoint_url=seaweedfs.endpoint_url),
    )
    block.save("a-block", overwrite=True)
    places = Places("a-block")
    places.open(s3_uri).put("mine.json", b'{"transforms": ["Rotate"], "seed": 7}')
    assert places.recipe(f"{s3_uri}/mine.json") == Recipe.from_text(TEXT)


@pytest.mark.usefixtures("server")
def test_a_block_may_name_a_role_with_what_to_ask_for() -> None:
    block = AwsCredentials(
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key=SecretStr("of-nobody"),
        assume_role_arn="arn:aws:iam::123456789012:role/augment",
        assume_role_kwargs=AssumeRoleParameters(DurationSeconds=1),
    )
    block.save("a-role", overwrite=True)
    with pytest.raises(SettingsError, match=r"(?s)role/augment cannot be taken.*DurationSeconds"):
        Places("a-role").open("s3://bucket")


@pytest.mark.usefixtures("server")
def test_a_block_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="'no-such-block'"):
        Places("no-such-block")
