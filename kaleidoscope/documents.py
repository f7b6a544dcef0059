"""YAML, of which JSON is a part, read more strictly than PyYAML reads it."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from kaleidoscope.errors import RecipeError

# What PyYAML lets out besides its own error: for 2020-13-01, !!bool x, !!timestamp x, {[]: 1} and
# a thousand brackets, in this order.
_LEAKS_OF_PYYAML = (ValueError, KeyError, AttributeError, TypeError, RecursionError)


def parse_yaml(text: str, *, origin: str) -> Any:
    """Return what a document holds.

    Args:
        text: The document.
        origin: What to call it in an error.

    Raises:
        RecipeError: If it is no YAML, or a key stands in it twice.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 -- a SafeLoader.
    except (yaml.YAMLError, *_LEAKS_OF_PYYAML) as error:
        raise RecipeError(f"{origin} is neither YAML nor JSON: {error}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 -- PyYAML's signature.
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # << is no key; it may be overridden.
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                mark = key_node.start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML reads, takes 1e-3 for a string, and json.dumps writes it so.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
