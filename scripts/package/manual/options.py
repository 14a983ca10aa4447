# SPDX-License-Identifier: Apache-2.0
"""Options and commands, from the parsers that read them."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click

from scripts.package.manual.roff import bold, entry, italic, paragraphs

__all__ = ["command_sections", "common_options", "options_of"]


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Describe every option of a program, group by group."""
    # argparse offers no other way to what has been added to a parser.
    for group in parser._action_groups:  # noqa: SLF001
        actions = group._group_actions  # noqa: SLF001
        if not actions:
            continue
        if group.title not in {"options", "positional arguments"}:
            yield f".SS {group.title}"
            if group.description:
                yield paragraphs(group.description)
        for action in actions:
            text = (action.help or "") % {"default": action.default, "prog": parser.prog}
            yield from entry(_term(action.option_strings, _value(action)), text)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


def command_sections(group: click.Group, titles: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Describe every command of a program, section by section, with its own options."""
    context = click.Context(group, info_name=group.name)
    common = {option for each in group.params for option in each.opts}
    for title, names in titles.items():
        yield f".SS {title}"
        for name in names:
            if command := group.get_command(context, name):
                yield from _command(command, common)


def _command(command: click.Command, common: set[str]) -> Iterator[str]:
    own = [each for each in command.params if not common & set(each.opts)]
    arguments = [
        italic(each.make_metavar(click.Context(command)))
        for each in own
        if isinstance(each, click.Argument)
    ]
    yield from (".TP", " ".join([bold(command.name or ""), *arguments]))
    yield paragraphs(command.help or "").replace(".PP", ".IP")
    options = [each for each in own if isinstance(each, click.Option)]
    if options:
        yield ".RS"
        for option in options:
            yield from _option(option)
        yield ".RE"


def common_options(group: click.Group) -> Iterator[str]:
    """Describe the options that every command has."""
    for each in group.params:
        if isinstance(each, click.Option):
            yield from _option(each)


def _option(option: click.Option) -> Iterator[str]:
    value = "" if option.is_flag else option.make_metavar(click.Context(click.Command("")))
    yield from entry(_term([*option.opts, *option.secondary_opts], value), option.help or "")


def _term(names: Sequence[str], value: str) -> str:
    term = ", ".join(map(bold, names))
    return f"{term} {italic(value)}" if value else term
