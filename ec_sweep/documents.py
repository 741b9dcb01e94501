"""YAML documents, read safely."""

from typing import Any, cast

import yaml

_DEEPEST = 20
"""Lists and mappings within each other; a sweep file needs five."""
_AS_TEXT = (":timestamp", ":value")
"""Tags of what YAML sees more in than the text that stands there: a date, a lone =."""
_LONGEST_NUMBER = 100
"""Characters of a number; thousands would take time to read and could not be shown."""


def parse(text: str) -> Any:
    """Return what a YAML document holds: plain values, lists and mappings.

    Raises:
        ValueError: with what is wrong, in one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(_problem(error)) from error


class _Loader(yaml.SafeLoader):
    """YAML without its traps: tags, keys given twice, and aliases and numbers without end."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - so the base class has it
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(_AS_TEXT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = cast(Any, self).peek_event()  # the stubs leave it untyped
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, "aliases (*name) are not allowed")
        if getattr(event, "tag", None) is not None:
            raise _refused(event, "tags (!name) are not allowed")
        if self._depth == _DEEPEST:
            raise _refused(event, "nested too deeply")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(key_node, "a key must be a single value")
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _refused(key_node, "merge keys (<<) are not allowed")
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _refused(key_node, f"the key {key!r:.60} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: Any) -> int | float:
        if len(node.value) > _LONGEST_NUMBER:
            raise _refused(node, f"a number of more than {_LONGEST_NUMBER} characters")
        read = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        try:
            return read(node)
        except ValueError as error:
            raise _refused(node, f"{node.value!r} is no number") from error


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def _refused(where: Any, problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    line = f"line {mark.line + 1}: " if mark else ""
    return " ".join(f"{line}{problem}".split())[:200]
