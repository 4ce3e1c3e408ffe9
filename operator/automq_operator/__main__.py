"""`python -m automq_operator`: waits for the Lease, then runs kopf with our handlers until SIGTERM."""

import asyncio
import logging
import signal
import sys

import aiohttp
import kopf
from kopf._core.engines.peering import Identity

from automq_operator import runtime, settings, telemetry
from automq_operator.api_server import ApiServer, load_config
from automq_operator.handlers import Operator
from automq_operator.health import HealthServer
from automq_operator.leader import Elector
from automq_operator.settings import OperatorSettings, SettingsError
from automq_operator.telemetry import Health

log = logging.getLogger("automq_operator")

BEAT_S = 1.0


async def _beat(health: Health) -> None:
    while True:
        health.beat_at = runtime.monotonic()
        await asyncio.sleep(BEAT_S)


async def run(configured: OperatorSettings, health: Health) -> None:
    """Until a signal, or until the Lease is lost: the process ends then and is started again."""
    await load_config()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = ApiServer()
    beating = loop.create_task(_beat(health))
    async with aiohttp.ClientSession() as session:
        operator = Operator(configured, server, session, health)

        async def work() -> None:
            telemetry.LEADER.set(1)
            log.info("leading")
            await kopf.operator(
                registry=operator.registry(),
                namespaces=configured.namespaces,
                clusterwide=not configured.namespaces,
                standalone=True,
                # Its own default asks the system who runs it, and a pod's user has no name.
                identity=Identity(configured.identity),
                stop_flag=stop,
            )

        health.ready = True
        leading = loop.create_task(
            Elector(
                server,
                namespace=configured.own_namespace,
                name=configured.lease_name,
                identity=configured.identity,
            ).lead(work)
        )
        stopping = loop.create_task(stop.wait())
        await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        asked = stop.is_set()
        stop.set()
        if asked:
            leading.cancel()
        outcome, _ = await asyncio.gather(leading, stopping, return_exceptions=True)
        telemetry.LEADER.set(0)
        if isinstance(outcome, Exception):
            raise outcome
    beating.cancel()
    await server.close()


def main() -> int:
    """The exit code: 0 stopped as asked, 2 wrong settings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        configured = settings.from_environment()
    except SettingsError as error:
        log.error("%s", error)
        return 2
    logging.getLogger("kopf").setLevel(logging.WARNING)  # it reports every event it hands over
    logging.getLogger("kopf.objects").setLevel(logging.CRITICAL)  # and every step of a deletion as an error
    health = Health()
    health.beat_at = runtime.monotonic()
    HealthServer(health, configured.http_port).start()
    asyncio.run(run(configured, health))
    return 0


if __name__ == "__main__":
    sys.exit(main())
