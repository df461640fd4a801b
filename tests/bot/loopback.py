"""A loopback server with the part of Discord's HTTP API and gateway that the tests need.

SimCord replaces the client's HTTP and gateway; here the client's own are tested.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

APPLICATION_ID = "1000"
BOT = {"id": APPLICATION_ID, "username": "Bard", "discriminator": "0", "avatar": None, "bot": True}
USER = {"id": "2000", "username": "ann", "discriminator": "0", "avatar": None, "global_name": "Ann"}
CHANNEL_ID = "3000"


class LoopbackDiscord:
    """Serve one client and record its responses to interactions.

    Attributes:
        token: The only bot token that it accepts.
        port: Its port while it runs.
        ready: Set when a client has identified itself.
        commands: The registered commands, as Discord returns them.
        registrations: Bodies of the requests that registered commands, in order.
        callbacks: Bodies of initial responses, in order.
        responses: Body of the initial response to each interaction, by its token.
        deleted: Tokens of the interactions whose original response was deleted.
        followups: Bodies of the follow-ups to each interaction, by its token.
        edits: Body of the last edit of each original response, by interaction token.
    """

    def __init__(self, token: str = "right") -> None:  # noqa: S107 - of a test server
        self.token = token
        self.port = 0
        self.ready = asyncio.Event()
        self.commands: list[dict[str, Any]] = []
        self.registrations: list[list[dict[str, Any]]] = []
        self.callbacks: list[dict[str, Any]] = []
        self.responses: dict[str, dict[str, Any]] = {}
        self.deleted: set[str] = set()
        self.followups: dict[str, list[dict[str, Any]]] = {}
        self.edits: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Condition()
        self._socket: web.WebSocketResponse | None = None
        self._sequence = itertools.count(1)
        # An id contains its time, from which the client computes the age of an interaction:
        # https://discord.com/developers/docs/reference#snowflakes
        self._ids = itertools.count(int((time.time() - 1_420_070_400) * 1000) << 22)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LoopbackDiscord"]:
        """Serve on a free port while the context lasts."""
        application = web.Application(middlewares=[self._authorize])
        api = "/api/v10"
        application.add_routes(
            [
                web.get("/", self._gateway),
                web.get(f"{api}/users/@me", self._me),
                web.get(f"{api}/oauth2/applications/@me", self._application),
                web.get(f"{api}/applications/{{id}}/commands", self._get_commands),
                web.put(f"{api}/applications/{{id}}/commands", self._put_commands),
                web.post(f"{api}/interactions/{{id}}/{{token}}/callback", self._callback),
                web.patch(f"{api}/webhooks/{{id}}/{{token}}/messages/@original", self._edit),
                web.delete(f"{api}/webhooks/{{id}}/{{token}}/messages/@original", self._delete),
                web.post(f"{api}/webhooks/{{id}}/{{token}}", self._follow_up),
            ]
        )
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            if self._socket is not None:
                await self._socket.close()
            await runner.cleanup()

    async def slash(self, name: str, *, as_user: int = 2000, **options: str | float) -> str:
        """Send a command in a direct message, as Ann if not given; return its token."""
        user = USER | {"id": f"{as_user}"}
        number = next(self._ids)
        kinds = {str: 3, int: 4, bool: 5, float: 10}
        values: list[dict[str, Any]] = [
            {"name": key, "type": kinds[type(value)], "value": value}
            for key, value in options.items()
        ]
        name, *inner = name.split()
        for part in reversed(inner):
            values = [{"name": part, "type": 1, "options": values}]
        data = {"id": "4000", "name": name, "type": 1, "options": values}
        await self._dispatch(
            "INTERACTION_CREATE",
            {
                "id": str(number),
                "application_id": APPLICATION_ID,
                "type": 2,
                "token": f"token-{number}",
                "version": 1,
                "data": data,
                "channel_id": CHANNEL_ID,
                "channel": {"id": CHANNEL_ID, "type": 1, "recipients": [user], "flags": 0},
                "user": user,
                "locale": "en-US",
                "entitlements": [],
                "authorizing_integration_owners": {"1": user["id"]},
                "context": 2,
                "app_permissions": "0",
                "attachment_size_limit": 0,
            },
        )
        return f"token-{number}"

    async def edited(self, token: str, text: str = "") -> dict[str, Any]:
        """Wait until an interaction's original response contains a text; return the edit's body."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: token in self.edits and text in (self.edits[token].get("content") or "")
            )
        return self.edits[token]

    async def responded(self, token: str) -> dict[str, Any]:
        """Wait for the initial response to an interaction; return its body."""
        async with self._changed:
            await self._changed.wait_for(lambda: token in self.responses)
        return self.responses[token]

    async def followed_up(self, token: str) -> dict[str, Any]:
        """Wait for the first follow-up to an interaction; return its body."""
        async with self._changed:
            await self._changed.wait_for(lambda: token in self.followups)
        return self.followups[token][0]

    async def acknowledged(self, count: int) -> None:
        """Wait until `count` interactions have had their initial response."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.callbacks) >= count)

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        public = request.path == "/" or request.path.startswith(
            ("/api/v10/interactions/", "/api/v10/webhooks/")
        )
        if not public and request.headers.get("Authorization") != f"Bot {self.token}":
            return _json({"message": "401: Unauthorized", "code": 0}, status=401)
        return await handler(request)

    async def _me(self, _request: web.Request) -> web.Response:
        return _json(BOT)

    async def _application(self, _request: web.Request) -> web.Response:
        return _json(
            {
                "id": APPLICATION_ID,
                "name": "Bard",
                "icon": None,
                "description": "",
                "bot_public": True,
                "bot_require_code_grant": False,
                "verify_key": "0" * 64,
                "flags": 0,
                "team": None,
                "owner": USER,
            }
        )

    async def _get_commands(self, _request: web.Request) -> web.Response:
        return _json(self.commands)

    async def _put_commands(self, request: web.Request) -> web.Response:
        self.registrations.append(await request.json())
        self.commands = [
            # Discord returns an empty description for context menus, which have none.
            {
                "description": "",
                **command,
                "id": "4000",
                "application_id": APPLICATION_ID,
                "version": "1",
            }
            for command in self.registrations[-1]
        ]
        return _json(self.commands)

    async def _callback(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._changed:
            self.callbacks.append(body)
            self.responses[request.match_info["token"]] = body
            self._changed.notify_all()
        return _json({"interaction": {"id": request.match_info["id"], "type": 2}})

    async def _edit(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._changed:
            self.edits[request.match_info["token"]] = body
            self._changed.notify_all()
        return self._message(body)

    async def _follow_up(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._changed:
            self.followups.setdefault(request.match_info["token"], []).append(body)
            self._changed.notify_all()
        return self._message(body)

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.add(request.match_info["token"])
        return web.Response(status=204)

    def _message(self, body: dict[str, Any]) -> web.Response:
        return _json(
            {
                "id": str(next(self._ids)),
                "channel_id": CHANNEL_ID,
                "author": BOT,
                "content": "",
                "timestamp": "2026-01-01T00:00:00+00:00",
                "edited_timestamp": None,
                "tts": False,
                "mention_everyone": False,
                "mentions": [],
                "mention_roles": [],
                "attachments": [],
                "embeds": body.get("embeds", []),
                "pinned": False,
                "type": 20,
            }
        )

    async def _dispatch(self, event: str, data: dict[str, Any]) -> None:
        assert self._socket is not None
        await self._socket.send_json({"op": 0, "t": event, "s": next(self._sequence), "d": data})

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        self._socket = web.WebSocketResponse()
        await self._socket.prepare(request)
        await self._socket.send_json({"op": 10, "d": {"heartbeat_interval": 40_000}})
        async for message in self._socket:
            match message.json():
                case {"op": 2}:
                    session = {
                        "v": 10,
                        "user": BOT,
                        "guilds": [],
                        "session_id": "session",
                        "resume_gateway_url": f"ws://127.0.0.1:{self.port}",
                        "application": {"id": APPLICATION_ID, "flags": 0},
                    }
                    await self._dispatch("READY", session)
                    self.ready.set()
                case {"op": 1}:
                    await self._socket.send_json({"op": 11, "d": None})
        return self._socket


def _json(data: object, status: int = 200) -> web.Response:
    # The client compares the whole header, so it must not have a charset.
    response = web.json_response(data, status=status)
    response.headers["Content-Type"] = "application/json"
    return response
