"""The server: Discord's HTTP routes and its gateway, on a free port of this machine."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.wire import rules
from tests.wire.api import Api, Body, RefusedError, refused, unknown
from tests.wire.changes import Changes
from tests.wire.faults import Fault, Faults, When
from tests.wire.gateway import Gateway
from tests.wire.limits import Limits, TooManyError
from tests.wire.people import People
from tests.wire.rules import Problem
from tests.wire.state import APPLICATION_ID, BOT, Clock, Interaction, Json, Place, World

PREFIX = "/api/v10"
MAX_REQUEST = 128 * 2**20
_TRUE = {"1", "true", "True"}


@dataclass(frozen=True)
class Route:
    """A route of the API.

    Attributes:
        method: The HTTP method.
        path: The path, with the names of its variables.
        bucket: Its bucket in `tests.wire.limits`.
        public: Whether it needs no bot token, but one of an interaction.
    """

    method: str
    path: str
    bucket: str | None = None
    public: bool = False


_HOOK = f"/webhooks/{APPLICATION_ID}/{{token}}"
_MESSAGES = "/channels/{channel}/messages"
_COMMANDS = f"/applications/{APPLICATION_ID}"
ROUTES = {
    "GET me": Route("GET", "/users/@me"),
    "GET application": Route("GET", "/oauth2/applications/@me"),
    "GET gateway": Route("GET", "/gateway/bot"),
    "GET commands": Route("GET", f"{_COMMANDS}/commands"),
    "PUT commands": Route("PUT", f"{_COMMANDS}/commands"),
    "GET server commands": Route("GET", f"{_COMMANDS}/guilds/{{guild}}/commands"),
    "PUT server commands": Route("PUT", f"{_COMMANDS}/guilds/{{guild}}/commands"),
    "POST callback": Route("POST", "/interactions/{id}/{token}/callback", public=True),
    "GET @original": Route("GET", f"{_HOOK}/messages/@original", "webhook", public=True),
    "PATCH @original": Route("PATCH", f"{_HOOK}/messages/@original", "webhook", public=True),
    "DELETE @original": Route("DELETE", f"{_HOOK}/messages/@original", "webhook", public=True),
    "POST followup": Route("POST", _HOOK, "webhook", public=True),
    "GET followup": Route("GET", f"{_HOOK}/messages/{{message}}", "webhook", public=True),
    "PATCH followup": Route("PATCH", f"{_HOOK}/messages/{{message}}", "webhook", public=True),
    "DELETE followup": Route("DELETE", f"{_HOOK}/messages/{{message}}", "webhook", public=True),
    "GET channel": Route("GET", "/channels/{channel}"),
    "GET messages": Route("GET", _MESSAGES),
    "GET message": Route("GET", f"{_MESSAGES}/{{message}}"),
    "POST message": Route("POST", _MESSAGES, "post"),
    "POST typing": Route("POST", "/channels/{channel}/typing", "typing"),
    "PATCH message": Route("PATCH", f"{_MESSAGES}/{{message}}", "edit"),
    "DELETE message": Route("DELETE", f"{_MESSAGES}/{{message}}", "delete"),
    "POST thread": Route("POST", "/channels/{channel}/threads"),
    "POST dm": Route("POST", "/users/@me/channels"),
    "GET user": Route("GET", "/users/{user}"),
    "GET member": Route("GET", "/guilds/{guild}/members/{user}"),
    "DELETE guild": Route("DELETE", "/users/@me/guilds/{guild}"),
}
"""Every route, by the name that faults and tests use."""


@dataclass
class Received:
    """A request, and how it was answered.

    Attributes:
        route: Its name in `ROUTES`.
        variables: Of its path.
        body: Its JSON.
        status: Of the answer; 0 if the connection was dropped, None while nothing was answered.
        code: Discord's code in the answer, if it was refused.
    """

    route: str
    variables: dict[str, str]
    body: Any = None
    status: int | None = None
    code: int = 0


@dataclass(frozen=True)
class Call:
    """A request that is carried out."""

    discord: "Discord"
    received: Received
    body: Body
    query: Mapping[str, str]

    @property
    def api(self) -> Api:
        """What carries requests out."""
        return self.discord.api

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the path."""
        return self.received.variables

    def __getitem__(self, name: str) -> str:
        """Return a variable of the path."""
        return self.variables[name]

    def check(self, found: Iterable[Problem]) -> None:
        """Refuse a body as Discord does, and record what else it breaks.

        Raises:
            RefusedError: It breaks one of Discord's rules.
        """
        problems = tuple(found)
        serious = [problem for problem in problems if problem.refused]
        if serious:
            raise RefusedError(400, rules.form_error(serious), problems=problems)
        self.discord.blame(self.received, problems)


class Discord(People):
    """Serve one bot, play the people who use it, and check everything that it sends.

    Attributes:
        token: The only bot token that it accepts.
        port: Its port while it runs.
        owner: The person who owns the application.
        faults: What is to go wrong.
        violations: Rules that the bot has broken, as text.
        requests: Every request so far.
        api: Carries them out.

    Args:
        token: The bot token.
        limits: Counts requests; tests of the limits themselves give their own.
    """

    def __init__(self, token: str = "right", limits: Limits | None = None) -> None:  # noqa: S107 - of a test server
        self.token = token
        self.port = 0
        self.violations: list[str] = []
        self.requests: list[Received] = []
        self.faults = Faults()
        clock, changes = Clock(), Changes()
        world = World(clock)
        gateway = Gateway(token, changes, self.violations, self.guild_payloads)
        super().__init__(world, gateway, changes, lambda: self.base)
        self.owner = self.person("Olivia")
        self._limits = limits or Limits()
        self.api = Api(world, gateway, self._limits, lambda: self.base)

    @property
    def base(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Discord"]:
        """Serve on a free port while the context lasts."""
        application = web.Application(client_max_size=MAX_REQUEST)
        application.router.add_get("/", self.gateway.serve)
        for name, route in ROUTES.items():
            application.router.add_route(
                route.method, f"{PREFIX}{route.path}", self._handler(name, route)
            )
        application.router.add_get(f"{PREFIX}/attachments/{{id}}/{{name}}", self._file)
        application.router.add_route("*", "/{path:.*}", self._not_played)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self.gateway.url = f"ws://127.0.0.1:{self.port}"
        try:
            yield self
        finally:
            self.faults.clear()
            await self.gateway.shut_down()
            await runner.cleanup()

    def sent(self, route: str, token: str | None = None) -> list[Received]:
        """Return the requests of a route, or those of them with the token of an interaction."""
        return [
            request
            for request in self.requests
            if request.route == route and token in {None, request.variables.get("token")}
        ]

    def exhaust_old_edits(self, place: Place) -> None:
        """Let Discord refuse the edits of old messages of a place."""
        self._limits.exhaust_old_edits(place.id)

    async def struck(self, fault: Fault) -> None:
        """Wait until a fault has happened."""
        await self.until(lambda: fault.struck, "a fault")

    # From a request to its answer.

    def _handler(
        self, name: str, route: Route
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            received = Received(name, dict(request.match_info))
            self.requests.append(received)
            body = await self._read(request)
            received.body = body.json
            fault = self.faults.take(name, received.variables.get("token"))
            answer = None
            if fault is not None and fault.when is When.BEFORE:
                answer = await self._strike(fault, request)
            if answer is None:
                answer = await self._answer(route, received, body, request)
            received.status = 0 if isinstance(answer, _Unsent) else answer.status
            self.changes.notify()
            if fault is not None and fault.when is When.AFTER:
                return await self._strike(fault, request) or answer
            return answer

        return handle

    async def _strike(self, fault: Fault, request: web.Request) -> web.Response | None:
        """Let a fault happen; return the answer that it gives, if it gives one."""
        fault.struck += 1
        self.changes.notify()
        if fault.held:
            await fault.passed()
            left = request.transport is None or request.transport.is_closing()
            return _Unsent() if left else None  # a client that has left asks for nothing
        if fault.status is None:
            assert request.transport is not None
            request.transport.abort()
            return _Unsent()
        if isinstance(fault.body, dict):
            return _json(fault.body, fault.status, fault.headers)
        return web.Response(
            status=fault.status, text=fault.body, content_type="text/html", headers=fault.headers
        )

    async def _answer(
        self, route: Route, received: Received, body: Body, request: web.Request
    ) -> web.Response:
        variables = received.variables
        headers: dict[str, str] = {}
        try:
            self._authorize(route, request)
            key = variables.get("token") or variables.get("channel") or ""
            headers = self._limits.take(route.bucket, key, counts_globally=not route.public)
            call = Call(self, received, body, request.query)
            result = await _EFFECTS[received.route](call)
        except TooManyError as error:
            received.code = error.body.get("code", 0)
            return _json(error.body, 429, error.headers)
        except RefusedError as error:
            received.code = error.body.get("code", 0)
            self.blame(received, error.problems)
            return _json(error.body, error.status, headers)
        if result is None:
            return web.Response(status=204, headers=headers)
        return _json(result, headers=headers)

    def _authorize(self, route: Route, request: web.Request) -> None:
        if not route.public and request.headers.get("Authorization") != f"Bot {self.token}":
            raise refused(401, 0, "401: Unauthorized")

    async def _read(self, request: web.Request) -> Body:
        """Return the body of a request; what Discord could not read is a violation."""
        if not request.can_read_body:
            return Body()
        kind = request.headers.get("Content-Type", "")
        try:
            if kind == "application/json":
                return Body(await request.json())
            if kind.startswith("multipart/form-data"):
                return await _read_form(request)
            self.violations.append(f"{request.path}: a body of type {kind!r}")
        except ValueError as error:
            self.violations.append(f"{request.path}: not JSON: {error}")
        return Body()

    def blame(self, received: Received, problems: Iterable[Problem]) -> None:
        """Record the rules that a body breaks."""
        self.violations += [f"{received.route}: {problem}" for problem in problems]

    async def _file(self, request: web.Request) -> web.Response:
        attachment = self.world.attachments.get(request.match_info["id"])
        if attachment is None:
            return _json(unknown(10008).body, 404)
        return web.Response(body=attachment.data)

    async def _not_played(self, request: web.Request) -> web.Response:
        self.violations.append(f"{request.method} {request.path}: the double has no such route")
        return _json({"message": "404: Not Found", "code": 0}, 404)


class _Unsent(web.Response):
    """The answer to a client that is not connected any more."""


async def _read_form(request: web.Request) -> Body:
    """Return the JSON and the files of a form."""
    payload: Any = None
    files: dict[int, tuple[str, bytes]] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            match = re.fullmatch(r"files\[(\d+)\]", name)
            if match is None:
                raise ValueError(f"a file named {name!r}")
            files[int(match[1])] = (value.filename, value.file.read())
        elif name == "payload_json" and isinstance(value, str):
            payload = json.loads(value)
    return Body(payload, files)


def _json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # discord.py compares the whole header, so it must not have a charset.
    response = web.json_response(data, status=status, headers=headers)
    response.headers["Content-Type"] = "application/json"
    return response


# The effects, by route.


async def _me(_call: Call) -> Json:
    return BOT


async def _application(call: Call) -> Json:
    return call.discord.application()


async def _gateway(call: Call) -> Json:
    gateway = call.discord.gateway
    return {"url": gateway.url, "shards": gateway.shards, "session_start_limit": gateway.limits()}


async def _commands(call: Call) -> list[Json]:
    localized = call.query.get("with_localizations") in _TRUE
    return await call.api.commands(call.variables.get("guild"), localized=localized)


async def _set_commands(call: Call) -> list[Json]:
    call.check(rules.commands(call.body.json))
    return await call.api.set_commands(call.variables.get("guild"), call.body)


async def _callback(call: Call) -> Json | None:
    interaction = call.discord.world.interactions.get(call["token"])
    if interaction is not None and interaction.callback is None:
        call.check(
            rules.callback(
                call.body.json,
                interaction_type=interaction.type,
                option_type=_typed_option(interaction),
                on_message=interaction.message is not None,
            )
        )
    with_response = call.query.get("with_response") in _TRUE
    return await call.api.respond(call["id"], call["token"], call.body, with_response=with_response)


def _typed_option(interaction: Interaction) -> int:
    """Return the type of the option for which suggestions are wanted."""
    options = list(interaction.data.get("options", ()))
    for option in options:
        options += option.get("options", ())
        if option.get("focused"):
            return int(option["type"])
    return 3


async def _original(call: Call) -> Json:
    return await call.api.original(call["token"])


async def _edit_original(call: Call) -> Json:
    call.check(rules.EDITED_MESSAGE(call.body.json, ()))
    return await call.api.edit_original(call["token"], call.body)


async def _delete_original(call: Call) -> None:
    await call.api.delete_original(call["token"])


async def _follow_up(call: Call) -> Json:
    call.check(rules.RESPONSE_MESSAGE(call.body.json, ()))
    return await call.api.follow_up(call["token"], call.body)


async def _followup(call: Call) -> Json:
    return await call.api.followup(call["token"], call["message"])


async def _edit_followup(call: Call) -> Json:
    call.check(rules.EDITED_MESSAGE(call.body.json, ()))
    return await call.api.edit_followup(call["token"], call["message"], call.body)


async def _delete_followup(call: Call) -> None:
    await call.api.delete_followup(call["token"], call["message"])


async def _channel(call: Call) -> Json:
    return await call.api.channel(call["channel"])


async def _messages(call: Call) -> list[Json]:
    limit = int(call.query.get("limit", 50))
    return await call.api.messages(call["channel"], limit, call.query.get("before"))


async def _message(call: Call) -> Json:
    return await call.api.message(call["channel"], call["message"])


async def _post(call: Call) -> Json:
    call.check(rules.POSTED_MESSAGE(call.body.json, ()))
    return await call.api.post(call["channel"], call.body)


async def _typing(call: Call) -> None:
    await call.api.typing(call["channel"])


async def _edit(call: Call) -> Json:
    call.check(rules.EDITED_MESSAGE(call.body.json, ()))
    return await call.api.edit(call["channel"], call["message"], call.body)


async def _delete(call: Call) -> None:
    await call.api.delete(call["channel"], call["message"])


async def _open_thread(call: Call) -> Json:
    call.check(rules.THREAD(call.body.json, ()))
    return await call.api.open_thread(call["channel"], call.body)


async def _open_dm(call: Call) -> Json:
    call.check(rules.PRIVATE_CHANNEL(call.body.json, ()))
    return await call.api.open_dm(call.body)


async def _user(call: Call) -> Json:
    return await call.api.user(call["user"])


async def _member(call: Call) -> Json:
    return await call.api.member(call["guild"], call["user"])


async def _leave(call: Call) -> None:
    guild = call.discord.world.guilds.get(call["guild"])
    if guild is None or not guild.installed:
        raise unknown(10004)
    await call.discord.leave(guild)


_EFFECTS: dict[str, Callable[[Call], Awaitable[Any]]] = {
    "GET me": _me,
    "GET application": _application,
    "GET gateway": _gateway,
    "GET commands": _commands,
    "PUT commands": _set_commands,
    "GET server commands": _commands,
    "PUT server commands": _set_commands,
    "POST callback": _callback,
    "GET @original": _original,
    "PATCH @original": _edit_original,
    "DELETE @original": _delete_original,
    "POST followup": _follow_up,
    "GET followup": _followup,
    "PATCH followup": _edit_followup,
    "DELETE followup": _delete_followup,
    "GET channel": _channel,
    "GET messages": _messages,
    "GET message": _message,
    "POST message": _post,
    "POST typing": _typing,
    "PATCH message": _edit,
    "DELETE message": _delete,
    "POST thread": _open_thread,
    "POST dm": _open_dm,
    "GET user": _user,
    "GET member": _member,
    "DELETE guild": _leave,
}
