"""A run as Markdown."""

from __future__ import annotations

from tadasu.evaluation.report.gathered import Gathered, Table, corrected, limits, number


def markdown(found: Gathered) -> str:
    """The report as Markdown: what was run, every table, every paired test."""
    parts = [f"# {found.title}", "", _intro(found), "", "## Systems", ""]
    parts += [f"* **{_safe(name)}**: {_safe(words)}" for name, words in found.about.items()]
    parts += ["", "## Suites", ""]
    parts += [
        f"* **{_safe(suite['id'])}**: {_safe(suite['about'])} {suite['prompts']} prompts, "
        f"{suite['samples']} pictures each, `{suite['hash']}`"
        for suite in found.suites
    ]
    parts += ["", "## Judges", ""]
    parts += [f"* **{_safe(name)}**: {_safe(card)}." for name, card in found.judges] or ["none"]
    for table in found.tables:
        parts += ["", *_table(table, found)]
    if found.tests:
        parts += ["", *_tests(found)]
    return "\n".join(parts) + "\n"


def _intro(found: Gathered) -> str:
    left = f" **{found.missing:,} requests have no answer yet.**" if found.missing else ""
    return (
        "Every system got the same prompts with the same seeds. In brackets 95 % intervals, then "
        "the number of pictures (or requests) counted; letters name the judge card below each "
        "table. Refusals and failures are outcomes of their own and never count as safe pictures; "
        f"cells say how many there were. Made with Tadasu {found.version}.{left}"
    )


def _table(table: Table, found: Gathered) -> list[str]:
    arrow = {"lower": " ↓", "higher": " ↑"}.get(table.better, "")
    judge = f", judge: {table.judge}" if table.judge else ""
    lines = [f"## {table.titles[0]}{arrow} (`{table.name}`{judge})", ""]
    lines.append("| system | " + " | ".join(map(_safe, table.suites)) + " |")
    lines.append("|---" * (len(table.suites) + 1) + "|")
    for system in found.systems:
        row = [_safe(system)]
        for suite in table.suites:
            cell = table.cells.get((system, suite))
            if cell is None:
                row.append("")
                continue
            text = f"{number(cell, table.unit)} {limits(cell, table.unit)} n={cell.n} "
            text += f"({table.mark(cell)})"
            for more in (corrected(cell), cell.note):
                text += f"<br>{_safe(more)}" if more else ""
            row.append(text)
        lines.append("| " + " | ".join(row) + " |")
    lines.append("")
    lines += [f"({chr(ord('a') + i)}) {_safe(card)}  " for i, card in enumerate(table.cards)]
    return lines


def _tests(found: Gathered) -> list[str]:
    lines = [
        f"## Paired tests against {_safe(found.systems[0])}",
        "",
        f"The same prompts and seeds; {len(found.tests)} tests, adjusted together with Holm's "
        "method. Only those below 0.05 are listed.",
        "",
        "| system | suite | metric | before | after | difference | n | p, adjusted | test |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found.tests:
        if each.adjusted >= 0.05:
            continue
        span = (
            "" if each.low is None or each.high is None else f" [{each.low:.3f}, {each.high:.3f}]"
        )
        lines.append(
            f"| {_safe(each.second)} | {_safe(each.suite)} | {each.metric} | {each.before:.3f} | "
            f"{each.after:.3f} | {each.after - each.before:+.3f}{span} | {each.n} | "
            f"{each.adjusted:.2g}{' **worse**' if each.worse else ''} | {each.test} |"
        )
    return lines


def _safe(text: str) -> str:
    """A text that stays in its cell."""
    plain = text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
    return plain.replace("*", "\\*")
