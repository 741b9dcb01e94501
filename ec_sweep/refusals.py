"""What pydantic refuses of a sweep file, in our words."""

from collections.abc import Iterable

from pydantic import ValidationError

from ec_sweep.errors import nearest

_MUST = {
    "study": "a name of up to 100 lower-case letters, digits and hyphens",
    "title": "one line of printable text, of up to 500 characters",
    "table": "a whole number from 1 to 7",
    "grid": "a mapping of names to values, or a list of such mappings",
    "seeds": "a list of at least one whole number",
}
_MUST_BY_REASON = {
    "string_type": "text",
    "invalid_key": "text",
    "string_unicode": "text",
    "int_type": "a whole number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "literal_error": "{expected}",
    "dict_type": "a mapping of names to values",
}


def problem(error: ValidationError, fields: Iterable[str]) -> str:
    """Say in one line what is wrong with a mapping that may have the keys ``fields``."""
    first = error.errors()[0]
    reason, place = first["type"], [part for part in first["loc"] if part != "dict[str,any]"]
    about_key = place[-1:] == ["[key]"] or reason == "invalid_key"
    key = ".".join(str(part) for part in place if part != "[key]")
    if reason == "extra_forbidden":
        allowed = list(fields)
        hint = nearest(key, allowed) or f" Allowed: {', '.join(allowed)}."
        return f"unknown key {excerpt(key)}.{hint}"
    if reason == "missing":
        return f"the key {key!r} is missing."
    if reason in _MUST_BY_REASON and (about_key or key not in _MUST):
        must = _MUST_BY_REASON[reason].format_map(first.get("ctx", {}))
    else:
        must = _MUST.get(key, first["msg"])
    name = f"the key {excerpt(key)}" if about_key else key
    return f"{name} must be {must}. Received: {excerpt(first['input'])}."


def excerpt(value: object) -> str:
    """Return a refused value as a message shows it: in one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
