"""`python -m automq_operator`: waits for the Lease, then runs kopf with our handlers until SIGTERM."""

import asyncio
import logging
import signal
import sys

import aiohttp

try:
    import kopf
except ModuleNotFoundError as missing:
    # The broker installs without it.
    raise SystemExit("the operator needs more than the broker: pip install 'automq-py[operator]'") from missing
from kopf._core.engines.peering import Identity

from automq_operator import runtime, settings, telemetry
from automq_operator.api_server import ApiServer, load_config
from automq_operator.handlers import Operator, absent_kinds
from automq_operator.health import HealthServer
from automq_operator.leader import Elector
from automq_operator.settings import OperatorSettings, SettingsError
from automq_operator.telemetry import Health

log = logging.getLogger("automq_operator")

BEAT_S = 1.0
AGAIN_S = 5.0


async def _beat(health: Health) -> None:
    while True:
        health.beat_at = runtime.monotonic()
        await asyncio.sleep(BEAT_S)


class Program:
    """One replica: waits for the Lease, leads until it is told to stop or the Lease is lost."""

    def __init__(self, configured: OperatorSettings, health: Health) -> None:
        self._configured, self._health = configured, health
        self._stop = asyncio.Event()

    def _answered(self) -> None:
        self._health.answered_at = runtime.monotonic()

    async def run(self) -> None:
        """Until a signal, or until the Lease is lost: the process ends then and is started again."""
        await load_config()
        loop = asyncio.get_running_loop()
        self._listen_for_signals()
        server = ApiServer()
        beating = loop.create_task(_beat(self._health))
        async with aiohttp.ClientSession() as session:
            elector = Elector(
                server,
                namespace=self._configured.own_namespace,
                name=self._configured.lease_name,
                identity=self._configured.identity,
                answered=self._answered,
            )
            leading = loop.create_task(elector.lead(lambda: self._work(server, session), lost=server.fence))
            stopping = loop.create_task(self._stop.wait())
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            asked = self._stop.is_set()
            self._stop.set()
            if asked:
                leading.cancel()
            outcome, _ = await asyncio.gather(leading, stopping, return_exceptions=True)
            telemetry.LEADER.set(0)
            if isinstance(outcome, Exception):
                raise outcome
        beating.cancel()
        await server.close()

    def _listen_for_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _work(self, server: ApiServer, session: aiohttp.ClientSession) -> None:
        """Run kopf; what ends it, a watch that the API server broke off for good, is no reason to stop leading."""
        telemetry.LEADER.set(1)
        self._health.leading = True
        log.info("leading")
        while not self._stop.is_set():
            operator: Operator | None = None
            try:
                absent = await absent_kinds(server, self._configured)
                operator = Operator(self._configured, server, session, self._health, absent=absent)
                await kopf.operator(
                    registry=operator.registry(),
                    namespaces=self._configured.namespaces,
                    clusterwide=not self._configured.namespaces,
                    standalone=True,
                    # Its own default asks the system who runs it, and a pod's user has no name.
                    identity=Identity(self._configured.identity),
                    stop_flag=self._stop,
                )
                return  # it was told to: its own handlers replace ours while it runs
            except Exception:
                log.exception("watching ended; it begins anew")
                telemetry.INTERNAL_ERRORS.inc()
            finally:
                if operator is not None:
                    await operator.close()
            self._listen_for_signals()
            try:
                await asyncio.wait_for(self._stop.wait(), AGAIN_S)
            except TimeoutError:
                pass


def main() -> int:
    """The exit code: 0 stopped as asked, 2 wrong settings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        configured = settings.from_environment()
    except SettingsError as error:
        log.error("%s", error)
        return 2
    logging.getLogger().setLevel(configured.log_level.upper())
    logging.getLogger("kopf").setLevel(
        max(logging.WARNING, logging.getLogger().level)
    )  # it reports every event it hands over; errors stay
    health = Health()
    health.beat_at = runtime.monotonic()
    HealthServer(health, configured.http_port).start()
    asyncio.run(Program(configured, health).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
