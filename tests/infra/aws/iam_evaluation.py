"""Decides as IAM does whether policies allow a request, for the parts of IAM that ours use.

No library does this offline: moto reads no conditions; parliament, policy-sentry and cloudsplaining
judge policies but no requests; the simulators ask a real account; iamspy is left by its authors.
Whatever is not understood here is an error and never a yes or no.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


@dataclass(frozen=True, slots=True)
class Request:
    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)
    """Condition keys and their values."""


def is_allowed(policies: Iterable[Mapping[str, Any]], request: Request) -> bool:
    """Say whether some statement allows the request and none denies it."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in _as_list(policy["Statement"])
        if _applies(statement, request)
    }
    assert effects <= {"Allow", "Deny"}
    return effects == {"Allow"}


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    assert set(statement) <= _KNOWN, f"not understood: {set(statement) - _KNOWN}"
    # A trust policy has no resource: it is the role's own.
    resources = _as_list(statement.get("Resource", "*"))
    return (
        any(
            _matches(each, request.action, ignore_case=True)
            for each in _as_list(statement["Action"])
        )
        and any(_matches(each, request.resource) for each in resources)
        and all(
            _holds(operator, key, _as_list(wanted), request.context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: list[str], value: str | None) -> bool:
    if operator == "StringEquals":
        return value in wanted
    if operator == "StringLike":
        return value is not None and any(_matches(each, value) for each in wanted)
    if operator == "Bool":
        return value is not None and value.lower() in [each.lower() for each in wanted]
    raise AssertionError(f"not understood: {operator} on {key}")


def _matches(pattern: str, value: str, *, ignore_case: bool = False) -> bool:
    assert "${" not in pattern, f"not understood: {pattern}"
    # Not fnmatch: in IAM brackets are brackets.
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, value, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
