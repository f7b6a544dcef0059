from datetime import UTC, datetime

import botocore.session
import pytest
from botocore.stub import ANY, Stubber

from infra.aws.account import Account
from infra.aws.prices import (
    ON_DEMAND,
    PriceRange,
    estimate,
    node_price,
    spot_prices,
    to_table,
    total,
    usual_spot_prices,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_an_idle_cluster_costs_its_control_plane_and_one_node() -> None:
    lines = estimate(
        system_type="m6i.large", system_nodes=1, spot=PriceRange(0.06, 0.1), shard_nodes=0
    )
    # 0.10 + 0.096, and 30 GB of disk and an address for the node.
    assert total(lines).low == pytest.approx(0.10 + 0.096 + 30 * 0.08 / 730 + 0.005)
    assert total(lines).low == total(lines).high


def test_every_node_pays_for_its_disk_and_its_address() -> None:
    few, many = (
        total(
            estimate(
                system_type="m6i.large", system_nodes=1, spot=PriceRange(0.06, 0.1), shard_nodes=n
            )
        )
        for n in (1, 11)
    )
    extras = node_price(0).low
    assert many.low - few.low == pytest.approx(10 * (0.06 + extras))
    assert many.high - few.high == pytest.approx(10 * (0.1 + extras))


def test_the_table_says_what_it_does_not_know() -> None:
    lines = estimate(system_type="x9.huge", system_nodes=1, spot=None, shard_nodes=2)
    text = to_table(lines)
    assert text.count("price not known") == 2
    assert "together, per hour" in text
    assert text.endswith("$0.100 and the unknown")


def test_spot_prices_are_those_of_this_moment_over_all_pages() -> None:
    client = botocore.session.Session().create_client("ec2", region_name="eu-central-1")
    wanted = {
        "InstanceTypes": ["c5.xlarge", "c6i.xlarge"],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": NOW,
    }
    with Stubber(client) as stubber:
        stubber.add_response(
            "describe_spot_price_history",
            {"SpotPriceHistory": [{"SpotPrice": "0.0712"}], "NextToken": "more"},
            wanted,
        )
        stubber.add_response(
            "describe_spot_price_history",
            {"SpotPriceHistory": [{"SpotPrice": "0.0655"}, {"SpotPrice": "0.0901"}]},
            {**wanted, "NextToken": ANY},
        )
        prices = spot_prices(client, ["c5.xlarge", "c6i.xlarge"], NOW)
        stubber.assert_no_pending_responses()
    assert prices == PriceRange(0.0655, 0.0901)


def test_a_caller_who_may_not_see_spot_prices_gets_the_usual_ones() -> None:
    client = botocore.session.Session().create_client("ec2", region_name="eu-central-1")
    with Stubber(client) as stubber:
        stubber.add_client_error("describe_spot_price_history", "UnauthorizedOperation")
        assert spot_prices(client, ["c5.xlarge"], NOW) is None
    usual = usual_spot_prices(["c5.xlarge", "unheard.of"])
    assert usual is not None
    assert 0 < usual.low < usual.high < ON_DEMAND["c5.xlarge"]
    assert usual_spot_prices(["unheard.of"]) is None


def test_moto_and_the_table_agree_on_what_a_price_is(account: Account) -> None:
    assert spot_prices(account.connect("ec2"), ["c5.xlarge"], NOW) is not None
