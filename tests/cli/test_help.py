"""The help of each option."""

import argparse
import importlib

import pytest

from effnetv2_jax.cli.main import COMMANDS


def options_without_default(parser):
    """Yields the options, also of subcommands, that may be left out and whose help does not say what holds then."""
    one_is_needed = {id(option) for group in parser._mutually_exclusive_groups if group.required
                     for option in group._group_actions}  # fmt: skip
    for option in parser._actions:
        if isinstance(option, argparse._SubParsersAction):
            for subparser in option.choices.values():
                yield from options_without_default(subparser)
        elif option.option_strings and not (option.required or id(option) in one_is_needed or "default" in option.help):
            yield option.option_strings[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_option_says_its_default(command):
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"effnetv2_jax.cli.commands.{command}").add_arguments(parser)
    assert list(options_without_default(parser)) == []
