"""The report of `automq fsck` as tables."""

from rich.table import Table

from automq.cli.output import show_table
from automq.server.tools.findings import Report, Severity

STYLES = {Severity.NOTE: "dim", Severity.WARNING: "yellow", Severity.DAMAGE: "bold red"}
PARTS_SHOWN = 5


def show_report(report: Report) -> None:
    """What there is, then what was found, then the verdict."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.keys.items()) or "nothing"
    head = Table.grid()
    head.add_row(f"{report.store}: cluster {report.cluster_id or 'unknown'}, {report.bytes} bytes: {kinds}")
    show_table(head)
    if report.findings:
        findings = Table("", "key", "what", "whom it concerns", "what to do", show_lines=True)
        for finding in report.findings:
            parts = [str(part) for part in finding.affected[:PARTS_SHOWN]]
            if len(finding.affected) > PARTS_SHOWN:
                parts.append(f"and {len(finding.affected) - PARTS_SHOWN} more")
            style = STYLES[finding.severity]
            findings.add_row(
                f"[{style}]{finding.severity.value}[/]", finding.key, finding.what, "\n".join(parts), finding.remedy
            )
        show_table(findings)
    verdict = Table.grid()
    depth = "every byte was read" if report.is_deep else "names and sizes were compared; --deep reads every byte"
    verdict.add_row(f"[bold red]damaged[/]: {depth}" if report.is_damaged else f"[green]clean[/]: {depth}")
    show_table(verdict)
