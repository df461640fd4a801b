"""A plain client for the tests of the double: it sends what a test says, and nothing by itself."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.wire.gateway import Intent
from tests.wire.people import Exchange
from tests.wire.server import ROUTES, Discord
from tests.wire.state import Json

NOBODY: Json = {"allowed_mentions": {"parse": []}}
"""What every message has."""
INTENTS = Intent.GUILDS | Intent.GUILD_MESSAGES | Intent.DIRECT_MESSAGES
COMMANDS: list[Json] = [
    {
        "name": "say",
        "description": "Say something.",
        "contexts": [0, 1, 2],
        "integration_types": [0, 1],
        "options": [
            {"type": 3, "name": "text", "description": "The words.", "autocomplete": True},
            {"type": 4, "name": "times", "description": "How often.", "min_value": 0},
        ],
    },
    {"name": "Quote", "type": 3, "contexts": [0, 1, 2], "integration_types": [0, 1]},
]


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> int | None:
        """Discord's code, if it is a refusal."""
        return self.body.get("code") if isinstance(self.body, dict) else None


class Socket:
    """A connection to the gateway."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.sequence = 0

    async def send(self, opcode: int, data: Any) -> None:
        """Send a message."""
        await self._socket.send_str(json.dumps({"op": opcode, "d": data}))

    async def receive(self) -> Json:
        """Return the next message."""
        payload: Json = await self._socket.receive_json(timeout=30)
        self.sequence = payload.get("s") or self.sequence
        return payload

    async def event(self, name: str) -> Json:
        """Return the data of the next event of a name; others are lost."""
        while (payload := await self.receive())["t"] != name:
            pass
        data: Json = payload["d"]
        return data

    async def close_code(self) -> int | None:
        """Wait until the server closes the connection; return its code."""
        while not self._socket.closed:
            await self._socket.receive(timeout=30)
        return self._socket.close_code

    async def close(self, code: int) -> None:
        """Close the connection."""
        await self._socket.close(code=code)


class App:
    """A client of the double.

    Attributes:
        discord: The double.
        socket: Its connection, once it has identified itself.
    """

    socket: Socket

    def __init__(self, discord: Discord, session: aiohttp.ClientSession) -> None:
        self.discord = discord
        self._session = session

    async def call(self, route: str, body: Any = None, **variables: str) -> Answer:
        """Send a request; a variable that the path lacks goes into the query."""
        path = ROUTES[route].path
        query = {key: value for key, value in variables.items() if f"{{{key}}}" not in path}
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        return await self.send(route, path.format(**variables), query, data, kind)

    async def upload(
        self, route: str, body: Any, files: dict[str, bytes], **variables: str
    ) -> Answer:
        """Send a request with files."""
        form = aiohttp.FormData()
        form.add_field("payload_json", json.dumps(body))
        for number, (name, content) in enumerate(files.items()):
            form.add_field(f"files[{number}]", content, filename=name)
        return await self.send(route, ROUTES[route].path.format(**variables), {}, form, {})

    async def send(
        self, route: str, path: str, query: dict[str, str], data: Any, headers: dict[str, str]
    ) -> Answer:
        """Send any request with the method of a route."""
        async with self._session.request(
            ROUTES[route].method,
            f"{self.discord.base}{path}",
            params=query,
            data=data,
            headers={"Authorization": f"Bot {self.discord.token}", **headers},
        ) as response:
            text = await response.text()
            is_json = response.headers.get("Content-Type") == "application/json"
            body = json.loads(text) if is_json else text
            return Answer(response.status, body, dict(response.headers))

    def in_background(self, route: str, body: Any, **variables: str) -> asyncio.Task[Answer]:
        """Send a request in a task."""
        return asyncio.create_task(self.call(route, body, **variables))

    async def respond(self, asked: Exchange, kind: int, data: Any = None) -> Answer:
        """Give the first response to an interaction."""
        body = {"type": kind} | ({} if data is None else {"data": data})
        interaction = asked.interaction
        return await self.call(
            "POST callback", body, id=interaction.id, token=asked.token, with_response="true"
        )

    async def connect(self) -> Socket:
        """Connect to the gateway, without identification."""
        url = f"{self.discord.gateway.url}?v=10&encoding=json"
        socket = Socket(await self._session.ws_connect(url))
        assert (await socket.receive())["op"] == 10
        return socket

    async def identify(self, intents: int = INTENTS, token: str | None = None) -> Socket:
        """Connect and ask for a session."""
        socket = await self.connect()
        properties = {"os": "linux", "browser": "test", "device": "test"}
        token = token or self.discord.token
        await socket.send(2, {"token": token, "intents": intents, "properties": properties})
        self.socket = socket
        return socket

    async def start(self) -> None:
        """Register commands and get a session."""
        answer = await self.call("PUT commands", COMMANDS)
        assert answer.status == 200
        socket = await self.identify()
        await socket.event("READY")


def button(custom_id: str, **more: Any) -> Json:
    """Return a row with a button."""
    item = {"type": 2, "style": 1, "label": custom_id.title(), "custom_id": custom_id, **more}
    return {"type": 1, "components": [item]}


def message(content: object = "Well.", **more: Any) -> Json:
    """Return a message that breaks no rule, unless `more` does."""
    return {"content": content, **NOBODY, **more}
