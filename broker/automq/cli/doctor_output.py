"""The doctor's report as tables."""

from rich.table import Table

from automq.cli.output import show_table
from automq.s3stream.store.doctor import DoctorReport, Outcome

STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow"}


def show_report(report: DoctorReport) -> None:
    """The checks, then the latencies, then the verdict."""
    checks = Table(
        "check", "", "outcome", "seen", title=f"{report.store}, {report.seconds:.1f} s", title_justify="left"
    )
    for check in report.checks:
        seen = f"{check.detail}\n{check.consequence}" if check.outcome is Outcome.FAILED else check.detail
        kind = "required" if check.required else "advisory"
        checks.add_row(check.name, kind, f"[{STYLES[check.outcome]}]{check.outcome}[/]", seen)
    show_table(checks)
    latencies = Table("request", "number", "p50 ms", "p99 ms")
    for latency in report.latencies:
        latencies.add_row(latency.operation, str(latency.requests), f"{latency.p50_ms:.1f}", f"{latency.p99_ms:.1f}")
    show_table(latencies)
    verdict = Table.grid()
    verdict.add_row("[green]suitable[/]" if report.suitable else "[bold red]not suitable[/]")
    show_table(verdict)
