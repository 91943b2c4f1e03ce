"""Puts the commands of this folder together and turns errors into messages and exit codes.

Every other module of this folder whose name is in :data:`COMMANDS` is a command. The module of
``tadasu policy`` is ``policy.py``; it defines either a function ``policy`` or, when it has
sub-commands, a ``typer.Typer`` called ``app``. A command imports what is heavy when it runs,
not at the top, because ``tadasu --help`` must not load torch.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.markup import escape

from tadasu.errors import MissingPart, RunFailed, TadasuError

#: The order of ``tadasu --help``. A new command is one file here, and its name in this list.
COMMANDS: tuple[str, ...] = (
    "demo",
    "generate",
    "compare",
    "screen",
    "judge",
    "audit",
    "concepts",
    "known",
    "edit",
    "align",
    "calibrate",
    "evaluate",
    "policy",
    "methods",
    "world",
    "doctor",
)


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="tadasu",
        help="Examine and correct generative image models after they were trained.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name in COMMANDS:
        module = importlib.import_module(f"tadasu.cli.{name}")
        nested = getattr(module, "app", None)
        if isinstance(nested, typer.Typer):
            app.add_typer(nested, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def show_version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        from tadasu import __version__

        sys.stdout.write(f"tadasu {__version__}\n")
        raise typer.Exit


def root(
    version: bool = typer.Option(
        False, "--version", callback=show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Examine and correct generative image models after they were trained."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code back.

    Args:
        arguments: the words after ``tadasu``; without them those of the process.

    Returns:
        0 done, 1 done and something was found, 2 bad input, 3 a part is missing, 4 the work could
        not be finished: no room on the disk, out of memory, or a defect (then with a traceback).
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # no advice about absent libraries
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait take no core
    try:
        build()(list(arguments) if arguments is not None else None, prog_name="tadasu")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except TadasuError as error:
        return _failed(error)
    except ModuleNotFoundError as error:
        return _failed(MissingPart.of(error) or error)
    except (OSError, MemoryError) as error:
        return _failed(RunFailed(f"The work stopped: {str(error) or type(error).__name__}."))
    except Exception as error:
        return _failed(error)
    return 0


def _failed(error: Exception) -> int:
    """Print the message of an error that was foreseen, the traceback of any other."""
    if not isinstance(error, TadasuError):
        traceback.print_exception(error)
        return RunFailed.exit_code
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[red]error:[/red] {escape(str(error))}"
    )
    return error.exit_code


def main() -> None:
    """The ``tadasu`` program."""
    sys.exit(run())
