"""`python -m tests.tools [JOB]...`: runs each tool's job against a broker of its own, or says why it cannot.

A job takes at most JOB_S seconds (times COMPAT_PATIENCE on a busy machine); what a tool is made of is fetched before,
by its ordinary package manager, and kept in a cache folder.
"""

import contextlib
import os
import pathlib
import sys
import tempfile
import time
import traceback

from automq.testing import start_broker
from tests.tools.job import JOBS, Job, Skipped, Surroundings

JOB_S = 30.0


def run_job(job: Job, folder: pathlib.Path) -> bool:
    """One line of the outcome; whether it is none of failure."""
    patience = float(os.environ.get("COMPAT_PATIENCE", "1"))
    with contextlib.ExitStack() as stack:
        try:
            prepared = job.prepare()
            brokers = [stack.enter_context(start_broker()) for _ in range(job.brokers)]
            surroundings = Surroundings(
                folder=folder,
                bootstrap=brokers[0].bootstrap,
                other=brokers[-1].bootstrap,
                prepared=prepared,
                deadline=time.monotonic() + JOB_S * patience,
            )
            began = time.monotonic()
            what = job.run(surroundings)
        except Skipped as skipped:
            print(f"SKIPPED  {job.name}: {skipped}", flush=True)
            return True
        except Exception as error:  # noqa: BLE001 - one job's failure is not the others'
            traceback.print_exc()
            print(f"FAILED   {job.name}: {error}", flush=True)
            return False
    print(f"PASSED   {job.name}: {what} ({time.monotonic() - began:.1f} s)", flush=True)
    return True


def main() -> int:
    # Jobs declare themselves.
    import tests.tools.clients
    import tests.tools.logic
    import tests.tools.platforms  # noqa: F401

    chosen = sys.argv[1:]
    unknown = set(chosen) - {job.name for job in JOBS}
    if unknown:
        print(f"no such job: {', '.join(sorted(unknown))}; there are {', '.join(job.name for job in JOBS)}")
        return 2
    outcomes = []
    for job in JOBS:
        if not chosen or job.name in chosen:
            with tempfile.TemporaryDirectory(prefix=f"automq-{job.name}-", ignore_cleanup_errors=True) as folder:
                outcomes.append(run_job(job, pathlib.Path(folder)))
    print(f"{sum(outcomes)} passed or skipped, {outcomes.count(False)} failed")
    return 1 if False in outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
