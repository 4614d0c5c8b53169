"""`--help` of every command: each setting with its default and its meaning, read from the dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import io
import shutil
import textwrap
import tokenize
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

_KEY, _DEFAULT, _WIDE = 34, 12, 100
_ALIKE = 3  # more parts of one type are listed together


def format_help(
    schema: type[Any], about: str, examples: Sequence[str], groups: Mapping[str, Sequence[str]],
    values: Mapping[str, Any],
) -> str:
    """Text of `--help`: what the command does, examples, and every setting below `schema`.

    groups: options of each group; values: nested settings as the command composes them by default.
    """
    width = min(shutil.get_terminal_size().columns, 120)
    lines = [inspect.cleandoc(about), ""]
    if examples:
        lines += ["Examples", *(f"  {example}" for example in examples), ""]
    lines += ["Settings: key=value", ""]
    _describe(schema, "", groups, values, width, lines)
    lines += ["", "--cfg job prints the settings without running; -m key=a,b runs once for each value."]
    return "\n".join(lines)


def field_comments(schema: type[Any]) -> dict[str, str]:
    """Trailing comment of each field of a dataclass: its meaning, declared where it is defined."""
    comments: dict[str, str] = {}
    for base in reversed([b for b in schema.__mro__ if dataclasses.is_dataclass(b)]):
        source = textwrap.dedent(inspect.getsource(base))
        names = {item.name for item in dataclasses.fields(base)}
        field: str | None = None
        at_start = True
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME and at_start:
                field = token.string if token.string in names and token.start[1] == 4 else None
            if token.type == tokenize.COMMENT and field:
                text = token.string.lstrip("# ").strip()
                comments[field] = f"{comments[field]} {text}" if field in comments and at_start else text
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                at_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            elif token.type == tokenize.NL:
                at_start = True
    return comments


def _describe(
    schema: type[Any], prefix: str, groups: Mapping[str, Sequence[str]], values: Mapping[str, Any],
    width: int, lines: list[str],
) -> None:
    hints = typing.get_type_hints(schema)
    comments = field_comments(schema)
    nested: dict[type[Any], list[str]] = {}
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            nested.setdefault(hint, []).append(item.name)
            continue
        meaning = comments.get(item.name, "")
        if isinstance(hint, type) and issubclass(hint, Enum):
            meaning = f"{meaning} [{' | '.join(option.name for option in hint)}]".strip()
        lines += _entry(prefix + item.name, _show(values[item.name]), meaning, width)
    for hint, names in nested.items():
        about = (inspect.getdoc(hint) or "").split("\n\n")[0].replace("\n", " ")
        if len(names) > _ALIKE:
            lines += ["", *textwrap.wrap(f"{prefix}<name>.<key>: {about}", width)]
            lines += [line for key, meaning in field_comments(hint).items()
                      for line in _entry(f"  .{key}", "", meaning, width)]
            lines += [line for name in names
                      for line in _entry(prefix + name, _show(values[name]), comments.get(name, ""), width)]
            continue
        for name in names:
            lines += ["", *textwrap.wrap(f"{prefix}{name}: {about}", width)]
            if not prefix and name in groups:
                options = " | ".join(groups[name])
                default = "default" if "default" in groups[name] else values[name].get("name", "")
                lines += _entry(f"{name}=", default, f"a ready set of the values below: {options}", width)
            _describe(hint, f"{prefix}{name}.", groups, values[name], width, lines)


def _show(value: Any) -> str:
    """A value as one would type it."""
    if value == "???":
        return "(required)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_show(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_show(v) for v in value) + "]"
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else "''"


def _entry(key: str, default: str, meaning: str, width: int) -> list[str]:
    """One setting: its meaning beside it where the terminal is wide enough, else below it."""
    left = f"  {key:<{_KEY}} {default:<{_DEFAULT}} "
    column = _KEY + _DEFAULT + 4
    if width < _WIDE or len(left) > column:
        below = textwrap.wrap(meaning, width - 6)
        return [left.rstrip(), *(" " * 6 + line for line in below)]
    wrapped = textwrap.wrap(meaning, width - column) or [""]
    return [(left + wrapped[0]).rstrip(), *(" " * column + line for line in wrapped[1:])]
