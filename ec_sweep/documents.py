"""YAML documents, read safely."""

from typing import Any

import yaml


def parse(text: str) -> Any:
    """Return what a YAML document holds: plain values, lists and mappings.

    Raises:
        ValueError: with what is wrong, in one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(_problem(error)) from error


class _Loader(yaml.SafeLoader):
    """YAML without its two traps: a key given twice, and aliases that multiply."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in a sweep file")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: the key {twice[0]!r} is given twice"
            )
        return super().construct_mapping(node, deep=deep)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
    line = f"line {mark.line + 1}: " if mark else ""
    return " ".join(f"{line}{problem}".split())
