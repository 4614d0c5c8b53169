"""Settings: YAML files here, typed by the dataclasses beside the code that reads them.

The only package that knows Hydra. A command decorates its main function with `entry`; inside the program
there are only dataclasses. Imports nothing of ours, and only commands import it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conf.help import format_help

Config = TypeVar("Config")

USAGE_ERROR = 2
READER_LEFT = 141
"""What a shell says of a program that a closed pipe ended."""


class SettingsError(ValueError):
    """A setting is unknown, ill-typed or missing; the message names it."""


def entry(
    schema: type[Config], name: str, text_keys: Sequence[str] = (), examples: Sequence[str] = ()
) -> Callable[[Callable[[Config], int | None]], Callable[[], None]]:
    """Turn `main(config: schema) -> exit code` into a command with Hydra's command line.

    schema: root dataclass; unknown, ill-typed and missing keys end the program with exit code 2 and a
    sentence that names the key, before `main` is called. name: `conf/<name>.yaml`. text_keys: keys whose
    values are taken as they are typed, so that commas and `=` in them need no quotes. examples: commands
    shown by `--help`. `--cfg job`, `-m` and shell completion are Hydra's own.
    """

    def decorate(main: Callable[[Config], int | None]) -> Callable[[], None]:
        @_reader_may_leave()
        def command() -> None:
            arguments = [quote_text(a, text_keys) for a in sys.argv[1:]]
            if {"--help", "-h"} & set(arguments):
                print(format_help(schema, main.__doc__ or "", examples, groups(), defaults(schema, name)))
                return
            overrides = [a for a in arguments if not a.startswith("-")]
            if len(overrides) == len(arguments):  # no flag of Hydra's own: the quick path
                try:
                    config = load(schema, name, overrides)
                except SettingsError as error:
                    sys.exit(_complain(f"{error}\nAll settings: --help"))
                sys.exit(main(config) or 0)
            _run_hydra(schema, name, arguments, main)

        return command

    return decorate


def load(schema: type[Config], name: str, overrides: Sequence[str] = ()) -> Config:
    """Compose `conf/<name>.yaml` with `overrides` into an instance of `schema`. Raises SettingsError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _register(schema, name)
    try:
        for override in OverridesParser.create().parse_overrides(overrides=list(overrides)):
            if override.is_add() or override.is_force_add():
                raise SettingsError(f"unknown setting {override.key_or_group!r}: none can be added with +")
            if override.is_sweep_override():
                raise SettingsError(f"{override.key_or_group}: one value a run; -m sweeps over several")
        composed = _compose(name, overrides)
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            raise SettingsError("missing: " + ", ".join(f"{key}=..." for key in missing))
        return OmegaConf.to_object(composed)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_explain(error, schema)) from None
    except SettingsError:
        raise
    except ValueError as error:  # a dataclass that looks at its values refuses one
        raise SettingsError(str(error)) from None


def restore(schema: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """An instance of `schema` from settings that were written down, as nested dicts; what they lack has its
    default. Raises SettingsError that begins with `where` for those it does not know or that are ill-typed.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), dict(values)))  # type: ignore
    except (OmegaConfBaseException, ValueError) as error:
        raise SettingsError(f"{where}: {_explain(error, schema)}") from None


def defaults(schema: type[Any], name: str) -> dict[str, Any]:
    """What every setting is when nothing is overridden, as nested dicts; "???" where it is required."""
    from omegaconf import OmegaConf

    _register(schema, name)
    return OmegaConf.to_container(_compose(name, ()))  # type: ignore[return-value]


def groups() -> dict[str, list[str]]:
    """Options of every group: the YAML files in the folders below `conf/`."""
    here = Path(__file__).parent
    return {
        folder.name: sorted(option.stem for option in folder.glob("*.yaml"))
        for folder in sorted(here.iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


def quote_text(argument: str, text_keys: Sequence[str]) -> str:
    """`action=w-80,d-40` as Hydra must see it to take the value literally."""
    key, found, value = argument.partition("=")
    if not found or key not in text_keys or not value or value == "???" or value[0] in "'\"":
        return argument
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + (r"\'" if m[2] else ""), value)
    return f"{key}='{escaped}'"


def _compose(name: str, overrides: Sequence[str]) -> Any:
    from hydra import compose, initialize_config_module

    with initialize_config_module(config_module="conf", version_base="1.3"):
        return compose(config_name=name, overrides=list(overrides))


def _register(schema: type[Any], name: str) -> None:
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def _run_hydra(schema: type[Any], name: str, arguments: list[str], main: Callable[[Any], int | None]) -> None:
    import hydra
    from omegaconf import OmegaConf

    _register(schema, name)

    def task(composed: Any) -> int | None:
        return main(OmegaConf.to_object(composed))

    sys.argv[1:] = arguments
    hydra.main(version_base="1.3", config_path="pkg://conf", config_name=name)(task)()


def _explain(error: Exception, schema: type[Any]) -> str:
    """First lines of an error of Hydra's, with the nearest existing key where one was mistyped."""
    import difflib

    lines = [line.strip() for line in (str(error) + "\n" + str(error.__cause__ or "")).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("object_type=", "To append"))]
    message = "; ".join(dict.fromkeys(lines))
    unknown = re.search(r"Could not override '([^']+)'|Key '([^']+)' not in", message)
    if unknown:
        key = unknown.group(1) or unknown.group(2)
        near = difflib.get_close_matches(key, [k for k, _ in flatten(schema)], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"unknown setting {key!r}{hint}"
    return message


def flatten(schema: type[Any], prefix: str = "") -> list[tuple[str, dataclasses.Field[Any]]]:
    """Every leaf setting of a root dataclass as (dotted key, field), in order of declaration."""
    import typing

    hints = typing.get_type_hints(schema)
    leaves: list[tuple[str, dataclasses.Field[Any]]] = []
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            leaves += flatten(hint, f"{prefix}{item.name}.")
        else:
            leaves.append((prefix + item.name, item))
    return leaves


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Who reads our output may have seen enough, as `head` has: that ends a command without a word."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
        if not any(event & select.POLLERR for _, event in output.poll(0)):
            raise  # another pipe's
        # What is left is dropped here, or the interpreter would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_LEFT)


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return USAGE_ERROR
