"""Serve the rehearsal stage's page at a fixed address, around SimCord's page.

SimCord serves one channel at a time, at an address with a new secret each time, and has no menu of
a message. This module forwards the requests of one fixed address to it, switches the channel, and
adds the script `rehearsal_page.js` to its page. It uses SimCord's public interface only; the script
depends on the page's elements and messages, so the version of SimCord is pinned.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import simcord
from aiohttp import web
from simcord.actors import MemberActor
from simcord.backend.errors import BackendError, SetupError
from simcord.builders import ChannelHandle, UserHandle

from .errors import StartupError

if TYPE_CHECKING:
    from simcord.preview import Preview

SCRIPT = Path(__file__).with_suffix(".js")
CAPABILITY = "X-Simcord-Capability"
_FORWARDED = (CAPABILITY, "X-Simcord-Context", "Content-Type")
_OF_THE_CONNECTION = {"connection", "content-length", "date", "server", "transfer-encoding"}
_BODY_LIMIT = 32 * 1024**2
"""Largest request body in bytes; SimCord itself accepts 26 MiB."""


def listen(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1; port 0 selects a free one.

    Raises:
        StartupError: The port is taken or not allowed.
    """
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise unserved(error.strerror or error) from error


def unserved(cause: object) -> StartupError:
    """Return the error that says why the page cannot be served."""
    return StartupError(f"Cannot serve the page: {cause}; try another --port")


@dataclass(frozen=True, slots=True)
class Room:
    """A channel or direct message that the page can show.

    Attributes:
        channel: The channel.
        people: Those whom the page can act as there: members, or the user of the direct message.
    """

    channel: ChannelHandle
    people: Sequence[MemberActor | UserHandle]


class RehearsalPage:
    """Serves the page while its context is open.

    Args:
        listener: See `listen`. The context closes it.
        env: The simulation, which has been started.
        rooms: What the page can show, by the names there; it shows one of them at a time.
        menus: The names of the commands in the menu of a message.

    Attributes:
        turn: Held by each action of the page. The simulation rejects an action that begins during
            another one or during a step of its clock, so the clock has to hold it as well.
        url: The page's address.
    """

    def __init__(
        self,
        listener: socket.socket,
        env: simcord.Env,
        rooms: Mapping[str, Room],
        menus: Sequence[str],
    ) -> None:
        self.turn = asyncio.Lock()
        port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._listener = listener
        self._env = env
        self._rooms = rooms
        self._menus = menus
        self._shown = ""
        self._preview: Preview | None = None
        self._closing = AsyncExitStack()
        self._closing_shown = AsyncExitStack()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_BODY_LIMIT, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/rehearsal.js", self._script),
                web.post("/rehearsal/show", self._show),
                web.post("/rehearsal/menu", self._menu),
                web.get("/{path:.*}", self._forward),
                web.delete("/{path:.*}", self._forward),
                web.post("/{path:.*}", self._act),
            ]
        )
        async with AsyncExitStack() as stack:
            timeout = aiohttp.ClientTimeout(total=None)  # an action ends when the bot rests
            self._client = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            stack.push_async_callback(self._close_shown)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, self._listener).start()
            self._closing = stack.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._closing.aclose()

    async def show(self, name: str, member_id: int | None = None) -> None:
        """Show a room from now on, to every tab; one that is open loads it by itself.

        Args:
            name: The room's name.
            member_id: The member that a newly loaded page acts as, if that person is there; None
                selects the first.

        Raises:
            StartupError: SimCord cannot serve its page.
        """
        async with self.turn:
            await self._close_shown()
            # A page acts as the first of the viewers until it selects another.
            room = self._rooms[name]
            viewers = sorted(room.people, key=lambda person: person.id != member_id)
            try:
                self._preview = await self._closing_shown.enter_async_context(
                    self._env.preview(room.channel, viewers=viewers, layout="channel")
                )
            except SetupError as error:
                raise unserved(error) from error
            self._shown = name

    async def refresh(self) -> None:
        """Update the page. Only while `turn` is held."""
        if self._preview is not None:
            await self._preview.refresh()

    async def wait_closed(self) -> None:
        """Wait until the page is closed by its own command."""
        while True:
            async with self.turn:
                preview = self._preview
            if preview is None:
                return
            await preview.wait_closed()
            async with self.turn:
                if preview is self._preview:
                    return

    async def _close_shown(self) -> None:
        self._preview = None
        await self._closing_shown.aclose()

    @property
    def _members(self) -> Mapping[int, MemberActor]:
        """The members in the room that is shown, by id."""
        people = self._rooms[self._shown].people
        return {person.id: person for person in people if isinstance(person, MemberActor)}

    @property
    def _capability(self) -> str:
        assert self._preview is not None  # noqa: S101 - the channel is not being changed
        return self._preview.url.partition("#")[2]

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Any,  # noqa: ANN401 - aiohttp's
    ) -> web.StreamResponse:
        """Reject what another website's page sends, whatever name it gave to this address."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if host not in self._hosts or origin not in (None, f"http://{host}"):
            raise web.HTTPForbidden
        response: web.StreamResponse = await handler(request)
        return response

    async def _index(self, request: web.Request) -> web.Response:
        async with self.turn:
            page = await self._forward(request)
            data = {
                "capability": self._capability,
                "rooms": [*self._rooms],
                "shown": self._shown,
                # SimCord lets members alone use such commands, not the user of a direct message.
                "menus": [*self._menus] if self._members else [],
            }
        assert isinstance(page.text, str)  # noqa: S101 - SimCord's index
        # Before SimCord's own script, which reads the secret from the address, and before its
        # styles, which a script waits for: keys are kept as soon as it runs.
        added = (
            f'<head><script type="application/json" id="rehearsal">{json.dumps(data)}</script>'
            '<script src="/rehearsal.js"></script>'
        )
        page.text = page.text.replace("<head>", added, 1)
        return page

    async def _script(self, _request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": "no-store", "Content-Type": "text/javascript; charset=utf-8"}
        return web.FileResponse(SCRIPT, headers=headers)

    async def _show(self, request: web.Request) -> web.Response:
        asked = await self._read(request)
        await self.show(asked["room"], int(asked["member"]))
        return web.Response()

    async def _menu(self, request: web.Request) -> web.Response:
        asked = await self._read(request)
        async with self.turn:
            member, channel = self._members[int(asked["member"])], self._rooms[self._shown].channel
            wanted = int(asked["message"])
            messages = {message.id: message for message in channel.history(viewer=member)}
            if (message := messages.get(wanted)) is None:
                raise web.HTTPConflict(text="That message is gone.")
            try:
                await member.context_menu(channel, asked["name"], message)
            except (BackendError, SetupError, TimeoutError) as error:
                raise web.HTTPConflict(text=str(error)) from error
            await self.refresh()
        return web.Response()

    async def _read(self, request: web.Request) -> Mapping[str, Any]:
        """Return the body of a request of our script."""
        async with self.turn:
            known = secrets.compare_digest(request.headers.get(CAPABILITY, ""), self._capability)
        if not known:
            raise web.HTTPUnauthorized
        body: Mapping[str, Any] = await request.json()
        return body

    async def _act(self, request: web.Request) -> web.Response:
        body = await request.read()
        async with self.turn:
            return await self._forward(request, body)

    async def _forward(self, request: web.Request, body: bytes | None = None) -> web.Response:
        """Let SimCord answer a request."""
        if self._preview is None:  # the channel is being changed
            async with self.turn:
                pass
        assert self._preview is not None  # noqa: S101 - it has been changed
        url = self._preview.url.partition("/#")[0] + request.path_qs
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        try:
            async with self._client.request(
                request.method, url, headers=headers, data=body
            ) as answer:
                kept = [
                    (name, value)
                    for name, value in answer.headers.items()
                    if name.lower() not in _OF_THE_CONNECTION
                ]
                response = web.Response(status=answer.status, body=await answer.read())
                response.headers.update(kept)
                return response
        except aiohttp.ClientError as error:
            raise web.HTTPBadGateway from error
