import pytest

from infra.aws.errors import AwsError
from infra.aws.options import ClusterOptions
from infra.aws.stacks import Buckets, data_parameters


def test_a_choice_beats_what_is_remembered_and_that_the_default() -> None:
    options = ClusterOptions.from_choices(
        {"max_shard_nodes": "40", "source_bucket": None},
        {"MaxShardNodes": "20", "SourceBucket": "originals", "ClusterName": "kaleidoscope"},
    )
    assert options.max_shard_nodes == "40"
    assert options.source_bucket == "originals"
    assert options.system_instance_type == ClusterOptions().system_instance_type


@pytest.mark.parametrize("prefix", ["photos", "photos/", "/photos/", " photos "])
def test_a_prefix_is_folders_however_it_is_written(prefix: str) -> None:
    assert ClusterOptions.from_choices({"source_prefix": prefix}).source_prefix == "photos/"


def test_an_empty_prefix_is_the_whole_bucket() -> None:
    options = ClusterOptions.from_choices({"source_prefix": ""}, {"SourcePrefix": "photos/"})
    assert options.source_prefix == ""


@pytest.mark.parametrize(
    ("source", "destination"),
    [("", ""), ("photos", ""), ("photos", "photos"), ("a/photos", "a")],
)
def test_pods_must_not_be_able_to_write_to_their_source(source: str, destination: str) -> None:
    with pytest.raises(AwsError, match="--destination-prefix"):
        ClusterOptions.from_choices(
            {
                "source_bucket": "data",
                "source_prefix": source,
                "destination_bucket": "data",
                "destination_prefix": destination,
            }
        )


@pytest.mark.parametrize(
    ("source", "destination"), [("photos", "images"), ("", "images"), ("photos", "photos/made")]
)
def test_one_bucket_may_hold_both_ends(source: str, destination: str) -> None:
    options = ClusterOptions.from_choices(
        {
            "source_bucket": "data",
            "source_prefix": source,
            "destination_bucket": "data",
            "destination_prefix": destination,
        }
    )
    assert options.source_bucket == options.destination_bucket == "data"


@pytest.mark.parametrize("count", ["0", "201", "-1", "many", ""])
def test_a_number_of_nodes_out_of_range_is_named(count: str) -> None:
    with pytest.raises(AwsError, match=f"1 to 200, not {count}"):
        ClusterOptions.from_choices({"max_shard_nodes": count})


def test_buckets_that_are_not_given_are_made_under_names_of_the_account() -> None:
    buckets = Buckets.from_options(
        ClusterOptions(source_bucket="originals"), account="123456789012", region="eu-central-1"
    )
    assert buckets == Buckets(
        "originals", "kaleidoscope-destination-123456789012-eu-central-1", False, True
    )


def test_an_own_bucket_given_by_name_is_still_an_own_one() -> None:
    name = "kaleidoscope-source-123456789012-eu-central-1"
    buckets = Buckets.from_options(
        ClusterOptions(source_bucket=name), account="123456789012", region="eu-central-1"
    )
    assert buckets.create_source


def test_there_is_no_data_stack_where_both_buckets_exist() -> None:
    assert data_parameters(Buckets("a", "b", False, False), {}) is None


def test_a_bucket_that_was_made_once_stays_in_its_stack() -> None:
    parameters = data_parameters(Buckets("a", "b", False, False), {"CreateSource": "yes"})
    assert parameters == {"CreateSource": "yes", "CreateDestination": "no"}
