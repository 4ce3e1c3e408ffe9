"""`python -m tests.e2e [STORY...]`: every story, or those named after the installation; then a closing line."""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaException

from tests.e2e.environment import Missing, Skipped, StepFailed, from_environ
from tests.e2e.plan import CHAIN, STAGES
from tests.e2e.stories.serving import apply_to_ready, install_the_operator
from tests.e2e.story import Figure, Lane, Stage, Story, factor
from tests.e2e.world import World


class Runner:
    """Runs stages, prints a line a story, counts."""

    def __init__(self, world: World, *, go_on: bool) -> None:
        self._world, self._go_on = world, go_on
        self._lock = threading.Lock()
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    @property
    def _over(self) -> bool:
        return bool(self.counts["failed"]) and not self._go_on

    def run(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            with ThreadPoolExecutor(len(stage.lanes)) as pool:
                list(pool.map(self._lane, stage.lanes))

    def _lane(self, lane: Lane) -> None:
        for story in lane:
            if self._over:
                return
            self._story(story)

    def _story(self, story: Story) -> None:
        began, (stretch, load) = time.monotonic(), factor()
        outcome, detail = "passed", ""
        try:
            figure = story(self._world)
            if figure is not None:
                outcome, detail = _judged(figure, stretch, load)
        except Skipped as reason:
            outcome, detail = "skipped", str(reason)
        except (StepFailed, AssertionError, KeyError, TimeoutError, KafkaException) as error:
            outcome, detail = "failed", f"{type(error).__name__}: {error}"
        with self._lock:
            self.counts[outcome] += 1
            print(f"{story.__name__:64} {time.monotonic() - began:7.1f} s  {outcome:8} {detail}", flush=True)


def _judged(figure: Figure, stretch: float, load: float) -> tuple[str, str]:
    """Against its goal, stretched only as far as the machine was busy before the story began."""
    outcome = "passed" if figure.seconds <= figure.goal_s * stretch else "failed"
    goal = f"goal {figure.goal_s:.0f} s, factor {stretch:.1f}, load {load:.1f}"
    return outcome, f"{figure.what}: {figure.seconds:.1f} s ({goal})"


def _chosen(names: Sequence[str], *, short: bool) -> list[Stage]:
    """Stages with the stories named, each once, or with all of them."""
    found: list[Stage] = []
    chosen: set[Story] = set()
    for stage in (*STAGES, *(CHAIN if names else ())):
        if short and not stage.short:
            continue
        lanes = [[item for item in lane if not names or item.__name__ in names] for lane in stage.lanes]
        lanes = [[item for item in lane if item not in chosen] for lane in lanes]
        chosen.update(item for lane in lanes for item in lane)
        found.append(Stage([lane for lane in lanes if lane]))
    first = [story for story in (install_the_operator, apply_to_ready) if names and story.__name__ not in names]
    if first:  # the others need the bucket and its Secret
        found.insert(0, Stage([first]))
    return [stage for stage in found if stage.lanes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", nargs="*", help="only these, by name")
    parser.add_argument("--short", action="store_true", help="without what takes long and is a variant")
    parser.add_argument(
        "--chain", action="store_true", help="the life of a cluster from its first broker to nothing left"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything there at the end")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    known = {story.__name__ for stage in (*STAGES, *CHAIN) for lane in stage.lanes for story in lane}
    if unknown := set(options.stories) - known:
        parser.error(f"no such story: {', '.join(sorted(unknown))}")
    try:
        world = World(from_environ())
    except Missing as missing:
        print(f"e2e: SKIPPED, {missing}")
        return 0
    began = time.monotonic()
    runner = Runner(world, go_on=options.go_on)
    runner.run(CHAIN if options.chain else _chosen(options.stories, short=options.short))
    if not options.keep:
        world.clean_up()
    told = ", ".join(f"{count} {outcome}" for outcome, count in runner.counts.items())
    print(f"e2e: {told} in {time.monotonic() - began:.0f} s")
    return 1 if runner.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
