"""What a cluster costs for an hour: a small table of list prices, and live prices of spot nodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

PRICES_OF = "mid-2026"
"""When the table was made; on-demand prices of a type rarely change after it is out."""

PRICES_REGION = "us-east-1"
"""Elsewhere most prices are within 30 % of these, and in some regions up to 60 % above."""

CONTROL_PLANE = 0.10
"""USD per hour of a version in standard support. https://aws.amazon.com/eks/pricing/"""

PUBLIC_IPV4 = 0.005
"""USD per hour and address. https://aws.amazon.com/vpc/pricing/"""

GP3_GB_MONTH = 0.08
"""USD per GB and month of disk. https://aws.amazon.com/ebs/pricing/"""

ON_DEMAND: Mapping[str, float] = {
    "c5.xlarge": 0.17,
    "c5a.xlarge": 0.154,
    "c6a.xlarge": 0.153,
    "c6i.xlarge": 0.17,
    "c7a.xlarge": 0.20528,
    "c7i.xlarge": 0.1785,
    "m6i.large": 0.096,
    "m6i.xlarge": 0.192,
    "m7i.large": 0.1008,
}
"""USD per hour, Linux. https://aws.amazon.com/ec2/pricing/on-demand/"""

SPOT_SHARE = (0.3, 0.6)
"""What spot usually costs as a share of on demand, where AWS could not be asked."""

NODE_DISK_GB = 30
"""Of each node, as in the cluster's template."""

HOURS_PER_MONTH = 730


@dataclass(frozen=True, slots=True)
class PriceRange:
    """USD per hour, lowest and highest."""

    low: float
    high: float

    def __add__(self, other: "PriceRange") -> "PriceRange":
        """Add what is paid at the same time."""
        return PriceRange(self.low + other.low, self.high + other.high)

    def times(self, count: int) -> "PriceRange":
        """Return what ``count`` of these cost."""
        return PriceRange(self.low * count, self.high * count)

    def __str__(self) -> str:
        """Write ``$0.12`` or ``$0.12 - 0.34``."""
        low, high = f"{self.low:.3f}", f"{self.high:.3f}"
        return f"${low}" if low == high else f"${low} - {high}"


@dataclass(frozen=True, slots=True)
class CostLine:
    """One component of the bill."""

    component: str
    per_hour: PriceRange | None
    """None if no price is known."""


def node_price(on_demand: float) -> PriceRange:
    """Return what a node costs with its disk and its address, given its instance's price."""
    return _node(PriceRange(on_demand, on_demand))


def spot_prices(client: Any, types: Iterable[str], now: datetime) -> PriceRange | None:
    """Ask EC2 what the instance types cost on the spot market, over all zones of the region.

    Returns:
        Without disk and address; None if EC2 does not say.
    """
    pages = client.get_paginator("describe_spot_price_history")
    try:
        prices = [
            float(each["SpotPrice"])
            for page in pages.paginate(
                InstanceTypes=list(types),
                ProductDescriptions=["Linux/UNIX"],
                # From now on: only the price in force.
                StartTime=now,
            )
            for each in page["SpotPriceHistory"]
        ]
    except (BotoCoreError, ClientError):
        return None  # A price that is unknown must not keep anybody from looking or leaving.
    return PriceRange(min(prices), max(prices)) if prices else None


def usual_spot_prices(types: Iterable[str]) -> PriceRange | None:
    """Return what the table lets expect; None if it knows none of the types."""
    known = [ON_DEMAND[each] for each in types if each in ON_DEMAND]
    if not known:
        return None
    return PriceRange(min(known) * SPOT_SHARE[0], max(known) * SPOT_SHARE[1])


def estimate(
    *, system_type: str, system_nodes: int, spot: PriceRange | None, shard_nodes: int
) -> tuple[CostLine, ...]:
    """Return the components of an hour's bill.

    Args:
        system_type: Instance type of the nodes that stay.
        system_nodes: How many of them.
        spot: For one spot instance.
        shard_nodes: How many of them.
    """
    system = ON_DEMAND.get(system_type)
    return (
        CostLine("control plane", PriceRange(CONTROL_PLANE, CONTROL_PLANE)),
        CostLine("NAT (there is none)", PriceRange(0, 0)),
        CostLine(
            f"{system_nodes} x {system_type}, on demand",
            None if system is None else node_price(system).times(system_nodes),
        ),
        CostLine(
            f"{shard_nodes} x shard node, spot",
            None if spot is None else _node(spot).times(shard_nodes),
        ),
    )


def total(lines: Iterable[CostLine]) -> PriceRange:
    """Add up what is known."""
    return sum(
        (line.per_hour for line in lines if line.per_hour is not None), start=PriceRange(0, 0)
    )


def to_table(lines: Iterable[CostLine]) -> str:
    """Return the lines and their sum as text, amounts in one column."""
    lines = tuple(lines)
    unknown = any(line.per_hour is None for line in lines)
    rows = [(line.component, str(line.per_hour or "price not known")) for line in lines]
    rows.append(("together, per hour", f"{total(lines)}{' and the unknown' if unknown else ''}"))
    width = max(len(component) for component, _ in rows)
    return "\n".join(f"  {component:<{width}}  {amount}" for component, amount in rows)


def _node(instance: PriceRange) -> PriceRange:
    extras = NODE_DISK_GB * GP3_GB_MONTH / HOURS_PER_MONTH + PUBLIC_IPV4
    return PriceRange(instance.low + extras, instance.high + extras)
