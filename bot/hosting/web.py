"""Serve /healthz, /readyz and /metrics over HTTP, for orchestrators and Prometheus."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..concurrency import Threads
from ..errors import StartupError
from .health import Health
from .metrics import Metrics

log = logging.getLogger(__name__)

LAG_SECONDS = 1.0
"""Time between two measurements of the event loop's lag."""
_SHUTDOWN_SECONDS = 1.0


@asynccontextmanager
async def serving(host: str, port: int, health: Health, metrics: Metrics) -> AsyncIterator[None]:
    """Serve on a port while the context lasts; 0 selects a free one.

    Raises:
        StartupError: The port is taken, or there is no such address.
    """
    try:
        listening = await _bind(host, port)
    except OSError as error:
        raise StartupError(
            f"Cannot serve HTTP on {host}:{port}: {error.strerror or error}. "
            "Set BARD_HTTP_PORT to another port, or BARD_HTTP_HOST to an address of this machine."
        ) from error
    threads = Threads(1, "noskgpt_bard-web")
    runner = web.AppRunner(
        _application(health, metrics, threads),
        access_log=None,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    lag = asyncio.create_task(_measure_lag(metrics), name="lag of the event loop")
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        address, number = listening.getsockname()[:2]
        log.info("Serving /healthz, /readyz and /metrics on port %d of %s", number, address)
        yield
    finally:
        lag.cancel()
        await runner.cleanup()
        listening.close()
        await threads.close()


async def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket for the first address of a host.

    Raises:
        OSError: See `serving`.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
    )
    family, _, _, _, address = found[0]
    return socket.create_server(address[:2], family=family)


def _application(health: Health, metrics: Metrics, threads: Threads) -> web.Application:
    async def healthz(_request: web.Request) -> web.Response:
        return _report(await health.defects())

    async def readyz(_request: web.Request) -> web.Response:
        return _report(await health.obstacles())

    async def measured(_request: web.Request) -> web.Response:
        # In a thread: the text takes some milliseconds, and a network drive has the database.
        text = await threads.run(generate_latest, metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", measured)
    return application


def _report(problems: list[str]) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return web.Response(status=status, text="\n".join(problems) or "ok")


async def _measure_lag(metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.lagged(max(0.0, loop.time() - due))
