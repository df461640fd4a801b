"""The gateway: sessions that send events, and that a client resumes."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntFlag

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from tests.wire.changes import LONG_PATIENCE_SECONDS, Changes
from tests.wire.state import APPLICATION_ID, BOT, Json


class Intent(IntFlag):
    """Which events a session gets."""

    GUILDS = 1 << 0
    GUILD_MEMBERS = 1 << 1
    GUILD_PRESENCES = 1 << 8
    GUILD_MESSAGES = 1 << 9
    DIRECT_MESSAGES = 1 << 12
    MESSAGE_CONTENT = 1 << 15


PRIVILEGED = Intent.GUILD_MEMBERS | Intent.GUILD_PRESENCES | Intent.MESSAGE_CONTENT
MAX_PAYLOAD = 4096
"""Longest message of a client, in bytes."""
MAX_STARTS_PER_DAY = 1000
MAX_EVENTS_PER_CONNECTION = 120
"""Messages of a client, heartbeats excepted. Discord counts them in a minute."""

_DISPATCH, _HEARTBEAT, _IDENTIFY, _RESUME = 0, 1, 2, 6
_RECONNECT, _INVALID, _HELLO, _ACK = 7, 9, 10, 11
_ENDS_SESSION = (4007, 4009)
_CLIENT_OPCODES = (1, 2, 3, 4, 6, 8, 31)


class _CloseError(Exception):
    """The client has broken a rule, for which its connection is closed with a code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def shard_of(guild_id: str | None, count: int) -> int:
    """Return the shard that gets the events of a server, or those of direct messages."""
    return 0 if guild_id is None else (int(guild_id) >> 22) % count


@dataclass(eq=False)
class Connection:
    """A connected client."""

    socket: web.WebSocketResponse
    request: web.Request
    session: "Session | None" = None
    received: int = 0
    closing: bool = False


@dataclass(eq=False)
class Session:
    """What a client has identified itself for, and every event of it, in order."""

    id: str
    intents: int
    shard: tuple[int, int] = (0, 1)
    events: list[Json] = field(default_factory=list)
    connection: Connection | None = None
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)


class Gateway:
    """Serve one bot's connections.

    Attributes:
        heartbeat_seconds: The interval that HELLO asks for.
        acknowledges: Whether heartbeats are answered.
        away: Whether new connections are refused.
        identify_seconds: Time between two identifications that are accepted; Discord's is 5.
        starts_left: Sessions that may still be started today.
        shards: The number of shards that is recommended.
        session: The newest session.
        shard_sessions: The newest session of each shard.
        identified: How often a client has identified itself and was accepted.
        early: How often one has identified itself too soon after another.
        resumed: How often one has resumed a session.
        heartbeats: How many have arrived.
        closed: Codes of the connections that ended, in order.

    Args:
        token: The only accepted bot token.
        changes: Told of everything that happens.
        violations: Takes what the client does wrong.
        guilds: Returns the JSON of the servers in which the bot is.
    """

    def __init__(
        self,
        token: str,
        changes: Changes,
        violations: list[str],
        guilds: Callable[[], Iterable[Json]],
    ) -> None:
        self.heartbeat_seconds = 40.0
        self.acknowledges = True
        self.away = False
        self.identify_seconds = 0.0
        self.starts_left = MAX_STARTS_PER_DAY
        self.shards = 1
        self.session: Session | None = None
        self.shard_sessions: dict[int, Session] = {}
        self.identified = self.early = self.resumed = self.heartbeats = 0
        self.closed: list[int | None] = []
        self.url = ""
        self._token = token
        self._changes = changes
        self._violations = violations
        self._guilds = guilds
        self._sessions: dict[str, Session] = {}
        self._connections: set[Connection] = set()
        self._numbers = itertools.count(1)
        self._accepts_at = 0.0

    # What a test lets it do.

    async def send(self, event: str, data: Json, intent: Intent | None = None) -> None:
        """Send an event to the shard that it concerns, now or when its session is resumed.

        Without a session of that shard, nobody gets it.

        Args:
            event: Its name.
            data: Its data.
            intent: Without this intent of the session it is not sent.
        """
        assert self.session is not None, "no client has identified itself"
        guild = data.get("id") if event.startswith("GUILD_") else data.get("guild_id")
        session = self.shard_sessions.get(shard_of(guild, self.session.shard[1]))
        if session is None or (intent is not None and not session.intents & intent):
            return
        async with session.sending:
            await self._append(session, event, data)

    async def repeat(self, event: str) -> None:
        """Send the last event of a name once more, as if it had happened again."""
        sent = [
            payload
            for session in self.shard_sessions.values()
            for payload in session.events
            if payload["t"] == event
        ]
        await self.send(event, sent[-1]["d"])

    async def send_raw(self, payload: Json, shard: int | None = None) -> None:
        """Send something that is no event, to the newest session without a shard."""
        await self._connected(shard).socket.send_json(payload)

    async def ask_to_reconnect(self) -> None:
        """Ask the client to connect again and resume."""
        await self._connected().socket.send_json({"op": _RECONNECT, "d": None})

    async def invalidate(self, *, resumable: bool) -> None:
        """Tell the client that its session is invalid; unless `resumable`, it is gone."""
        connection = self._connected()
        assert connection.session is not None
        if not resumable:
            self._sessions.pop(connection.session.id)
            self.shard_sessions.pop(connection.session.shard[0])
            self.session = next(iter(self.shard_sessions.values()), None)
        await connection.socket.send_json({"op": _INVALID, "d": resumable})

    async def close(self, code: int) -> None:
        """Close the connection with a code, some of which end its session."""
        connection = self._connected()
        connection.closing = True
        if code in _ENDS_SESSION and connection.session is not None:
            self._sessions.pop(connection.session.id)
        await connection.socket.close(code=code)

    def drop(self, shard: int | None = None) -> None:
        """Drop the connection of a shard, or the newest, without a word."""
        transport = self._connected(shard).request.transport
        assert transport is not None
        transport.abort()

    async def has_resumed(self, count: int) -> None:
        """Wait until sessions were resumed so often."""
        await self._changes.until(lambda: self.resumed >= count, "the bot resumes its session")

    async def has_identified(self, count: int) -> None:
        """Wait until clients have identified themselves so often."""
        await self._changes.until(
            lambda: self.identified >= count, "the bot identifies itself", LONG_PATIENCE_SECONDS
        )

    def limits(self) -> Json:
        """Return what a client that asks for the gateway learns of the sessions that it may start.

        One whose starts are used up has to wait for a second.
        """
        return {
            "total": MAX_STARTS_PER_DAY,
            "remaining": max(0, self.starts_left),
            "reset_after": 1000,
            "max_concurrency": 1,
        }

    async def has_closed(self, count: int) -> None:
        """Wait until so many connections have ended."""
        await self._changes.until(lambda: len(self.closed) >= count, "the connection ends")

    async def shut_down(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            await connection.socket.close(code=WSCloseCode.GOING_AWAY)

    def _connected(self, shard: int | None = None) -> Connection:
        session = self.session if shard is None else self.shard_sessions[shard]
        assert session is not None
        assert session.connection is not None, "no client is connected"
        return session.connection

    # What it does by itself.

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Serve a connection until it ends."""
        if request.query.get("v") != "10" or request.query.get("encoding") != "json":
            self._violations.append(f"gateway: connected with {request.query_string!r}")
        if self.away:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(socket, request)
        self._connections.add(connection)
        interval = int(self.heartbeat_seconds * 1000)
        await socket.send_json(
            {"op": _HELLO, "s": None, "t": None, "d": {"heartbeat_interval": interval}}
        )
        try:
            async for message in socket:
                await self._receive(connection, message)
        except _CloseError as error:
            self._violations.append(f"gateway: {error} ({error.code})")
            connection.closing = True
            await socket.close(code=error.code, message=str(error).encode())
        finally:
            self._connections.discard(connection)
            self._detach(connection)
        return socket

    def _detach(self, connection: Connection) -> None:
        session, code = connection.session, connection.socket.close_code
        if session is not None and session.connection is connection:
            session.connection = None
            # A client that closes with one of these, and does not confirm, has no wish to resume.
            if code in {1000, 1001} and not connection.closing:
                self._sessions.pop(session.id, None)
        self.closed.append(code)
        self._changes.notify()

    async def _receive(self, connection: Connection, message: WSMessage) -> None:
        if message.type is not WSMsgType.TEXT:
            raise _CloseError(4002, "Decode error: not text")
        if len(message.data.encode()) > MAX_PAYLOAD:
            raise _CloseError(4002, "Decode error: too long")
        try:
            payload = json.loads(message.data)
        except ValueError:
            raise _CloseError(4002, "Decode error: not JSON") from None
        opcode = payload.get("op")
        if opcode not in _CLIENT_OPCODES:
            raise _CloseError(4001, f"Unknown opcode {opcode}")
        if opcode == _HEARTBEAT:
            await self._beat(connection, payload)
            return
        connection.received += 1
        if connection.received > MAX_EVENTS_PER_CONNECTION:
            raise _CloseError(4008, "Rate limited")
        if opcode == _IDENTIFY:
            await self._identify(connection, payload["d"])
        elif opcode == _RESUME:
            await self._resume(connection, payload["d"])
        elif connection.session is None:
            raise _CloseError(4003, "Not authenticated")

    async def _beat(self, connection: Connection, payload: Json) -> None:
        last = len(connection.session.events) if connection.session else 0
        if (payload.get("d") or 0) > last and connection.session is not None:
            raise _CloseError(4007, f"Invalid seq {payload['d']}")
        self.heartbeats += 1
        self._changes.notify()
        if self.acknowledges:
            await connection.socket.send_json({"op": _ACK})

    async def _identify(self, connection: Connection, data: Json) -> None:
        if connection.session is not None:
            raise _CloseError(4005, "Already authenticated")
        if data.get("token") != self._token:
            # Not a violation: a test of a wrong token does this.
            await connection.socket.close(code=4004, message=b"Authentication failed.")
            return
        intents = data.get("intents")
        if not isinstance(intents, int) or not 0 <= intents < 1 << 26:
            raise _CloseError(4013, f"Invalid intents {intents!r}")
        if intents & PRIVILEGED:
            raise _CloseError(4014, f"Disallowed intents {Intent(intents & PRIVILEGED)!r}")
        if not {"os", "browser", "device"} <= set(data.get("properties", ())):
            raise _CloseError(4002, "Decode error: properties")
        shard = self._shard(data)
        if not await self._may_start(connection):
            return
        session = Session(f"session-{next(self._numbers)}", intents, shard, connection=connection)
        self._sessions[session.id] = self.session = connection.session = session
        self.shard_sessions[shard[0]] = session
        guilds = [
            guild
            for guild in (self._guilds() if intents & Intent.GUILDS else ())
            if shard_of(guild["id"], shard[1]) == shard[0]
        ]
        async with session.sending:
            await self._append(
                session,
                "READY",
                {
                    "v": 10,
                    "user": BOT,
                    "guilds": [{"id": guild["id"], "unavailable": True} for guild in guilds],
                    "session_id": session.id,
                    "resume_gateway_url": self.url,
                    "shard": list(shard),
                    "application": {"id": APPLICATION_ID, "flags": 0},
                },
            )
            for guild in guilds:
                await self._append(session, "GUILD_CREATE", {**guild, "unavailable": False})
        self.identified += 1
        self._changes.notify()

    def _shard(self, data: Json) -> tuple[int, int]:
        match data.get("shard", [0, 1]):
            case [int(number), int(count)] if 0 <= number < count:
                return number, count
            case other:
                raise _CloseError(4010, f"Invalid shard {other!r}")

    async def _may_start(self, connection: Connection) -> bool:
        """Return whether another session may start; tell the client if it is too early."""
        if self.starts_left <= 0:
            self._violations.append("gateway: more sessions than Discord allows in a day")
        self.starts_left -= 1
        now = asyncio.get_running_loop().time()
        if now < self._accepts_at:
            self.early += 1
            await connection.socket.send_json({"op": _INVALID, "d": False})
            return False
        self._accepts_at = now + self.identify_seconds
        return True

    async def _resume(self, connection: Connection, data: Json) -> None:
        session = self._sessions.get(data.get("session_id", ""))
        if data.get("token") != self._token:
            await connection.socket.close(code=4004, message=b"Authentication failed.")
            return
        if session is None:
            await connection.socket.send_json({"op": _INVALID, "d": False})
            return
        last = data.get("seq")
        if not isinstance(last, int) or last > len(session.events):
            raise _CloseError(4007, f"Invalid seq {last!r}")
        connection.session, session.connection = session, connection
        async with session.sending:
            for payload in session.events[last:]:
                await self._write(session, payload)
            await self._append(session, "RESUMED", {"_trace": []})
        self.resumed += 1
        self._changes.notify()

    async def _append(self, session: Session, event: str, data: Json) -> None:
        payload = {"op": _DISPATCH, "t": event, "s": len(session.events) + 1, "d": data}
        # A copy, because what is sent later must not show what has changed since.
        session.events.append(json.loads(json.dumps(payload)))
        await self._write(session, session.events[-1])

    async def _write(self, session: Session, payload: Json) -> None:
        if session.connection is None or session.connection.socket.closed:
            return  # until it is resumed
        try:
            await session.connection.socket.send_json(payload)
        except ConnectionError:
            session.connection = None
