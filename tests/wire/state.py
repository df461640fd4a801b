"""What the double knows: people, places, messages and interactions, and their JSON."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Any

from tests.wire.rules import EPHEMERAL, LOADING, embed_texts

Json = dict[str, Any]

APPLICATION_ID = "1000"
BOT: Json = {
    "id": APPLICATION_ID,
    "username": "Bard",
    "discriminator": "0",
    "avatar": None,
    "global_name": None,
    "bot": True,
}
FIRST_RESPONSE_SECONDS = 3.0
TOKEN_SECONDS = 15 * 60.0
OLD_MESSAGE_SECONDS = 3600.0
MAX_EXTERNAL_FOLLOWUPS = 5
"""Follow-ups to an interaction of an app that is installed by its user alone."""
FILE_LIMIT = 10 * 2**20

# https://discord.com/developers/docs/reference#snowflakes
_EPOCH = 1_420_070_400


class Clock:
    """The time of the double, in seconds since 1970. It stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = time.time()

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class Permission(IntFlag):
    """The permissions that something here depends on."""

    KICK_MEMBERS = 1 << 1
    ADMINISTRATOR = 1 << 3
    MANAGE_GUILD = 1 << 5
    VIEW_CHANNEL = 1 << 10
    SEND_MESSAGES = 1 << 11
    MANAGE_MESSAGES = 1 << 13
    EMBED_LINKS = 1 << 14
    ATTACH_FILES = 1 << 15
    READ_MESSAGE_HISTORY = 1 << 16
    USE_APPLICATION_COMMANDS = 1 << 31
    CREATE_PUBLIC_THREADS = 1 << 35
    SEND_MESSAGES_IN_THREADS = 1 << 38
    USE_EXTERNAL_APPS = 1 << 50


MEMBER = (
    Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.READ_MESSAGE_HISTORY
    | Permission.USE_APPLICATION_COMMANDS
    | Permission.CREATE_PUBLIC_THREADS
    | Permission.SEND_MESSAGES_IN_THREADS
    | Permission.USE_EXTERNAL_APPS
)
"""What a member may do who has no role."""
MODERATOR = MEMBER | Permission.MANAGE_MESSAGES
MANAGER = MODERATOR | Permission.MANAGE_GUILD | Permission.ADMINISTRATOR
_DIRECT = Permission.ATTACH_FILES | Permission.EMBED_LINKS


class Context(IntEnum):
    """Where an interaction comes from."""

    GUILD = 0
    BOT_DM = 1
    PRIVATE_CHANNEL = 2


class Kind(IntEnum):
    """Types of channels."""

    TEXT = 0
    DM = 1
    VOICE = 2
    GROUP = 3
    THREAD = 11
    FORUM = 15
    UNKNOWN = 4242
    """One that no library knows yet."""


@dataclass(eq=False, repr=False)
class Person:
    """Somebody with an account.

    Attributes:
        id: Their id.
        name: The name that others see.
        installed: Whether they have installed the app for themselves.
        closed: Whether they accept no direct messages.
        locale: The language of their client.
    """

    id: str
    name: str
    installed: bool = False
    closed: bool = False
    locale: str = "en-US"

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def user(self) -> Json:
        return {
            "id": self.id,
            "username": self.name.lower(),
            "discriminator": "0",
            "avatar": None,
            "global_name": self.name,
        }


@dataclass(eq=False)
class Guild:
    """A server.

    Attributes:
        id: Its id.
        name: Its name.
        installed: Whether the bot is a member. It is absent where only people installed the app.
        public: Whether an app that only its user has installed may answer for all to see.
        permissions: Of people by id; others have those of a member.
        deleted: Whether it is gone, or the bot was removed.
        locale: Its language.
    """

    id: str
    name: str
    installed: bool = True
    public: bool = True
    permissions: dict[str, Permission] = field(default_factory=dict)
    deleted: bool = False
    locale: str = "en-US"

    def member(self, person: Person, permissions: Permission | None = None) -> Json:
        """Return a member, in an interaction with the permissions in its channel."""
        member = self._member(person.user())
        return member | ({} if permissions is None else {"permissions": str(int(permissions))})

    def everyone(self) -> Json:
        """Return the role that every member has."""
        return {
            "id": self.id,
            "name": "@everyone",
            "permissions": str(int(MEMBER)),
            "position": 0,
            "color": 0,
            "hoist": False,
            "managed": False,
            "mentionable": False,
            "flags": 0,
        }

    def bot_member(self) -> Json:
        """Return the bot as a member."""
        return self._member(BOT)

    @staticmethod
    def _member(user: Json) -> Json:
        return {
            "user": user,
            "nick": None,
            "avatar": None,
            "roles": [],
            "joined_at": "2024-01-01T00:00:00+00:00",
            "premium_since": None,
            "deaf": False,
            "mute": False,
            "pending": False,
            "communication_disabled_until": None,
            "flags": 0,
        }


@dataclass(eq=False, repr=False)
class Place:
    """A channel, a thread or a conversation.

    Attributes:
        id: Its id.
        kind: Its type.
        name: Its name; empty outside servers.
        guild: Its server.
        parent: The channel of a thread.
        people: Who takes part in a conversation outside servers.
        context: Of its interactions.
        allowed: What the bot may do there; None without access.
        permissions: Of people by id, where they differ from those in the server.
        archived: Whether a thread is closed until somebody writes in it.
        locked: Whether only moderators may open it again.
        deleted: Whether it is gone.
        size_limit: Largest attachment in bytes.
    """

    id: str
    kind: Kind
    name: str = ""
    guild: Guild | None = None
    parent: "Place | None" = None
    people: tuple[Person, ...] = ()
    context: Context = Context.GUILD
    allowed: Permission | None = MEMBER
    permissions: dict[str, Permission] = field(default_factory=dict)
    archived: bool = False
    locked: bool = False
    deleted: bool = False
    size_limit: int = FILE_LIMIT

    def __repr__(self) -> str:
        return f"<{self.kind.name} {self.name or self.people}>"

    @property
    def bot_is_there(self) -> bool:
        """Whether the bot sees what is written there."""
        if self.guild is not None:
            return self.guild.installed and self.allowed is not None
        return self.context is Context.BOT_DM

    @property
    def private_only(self) -> bool:
        """Whether every answer there is for one person alone."""
        return self.guild is not None and not self.guild.installed and not self.guild.public

    def permissions_of(self, person: Person) -> Permission:
        """Return what a person may do; nothing outside servers, as Discord says there."""
        if self.guild is None:
            return Permission(0)
        return self.permissions.get(person.id, self.guild.permissions.get(person.id, MEMBER))

    def app_permissions(self) -> Permission:
        """Return what an interaction says that the app may do."""
        if self.guild is None:
            return _DIRECT
        return (self.allowed or Permission(0)) if self.guild.installed else _DIRECT

    def channel(self, viewer: Person | None = None) -> Json:
        """Return its JSON; with the permissions of a person, as in an interaction."""
        channel: Json = {"id": self.id, "type": int(self.kind), "flags": 0, "last_message_id": None}
        if self.guild is None:
            channel["recipients"] = [
                person.user() for person in self.people if person is not viewer
            ]
            if self.kind is Kind.GROUP:
                channel |= {"name": None, "icon": None, "owner_id": self.people[0].id}
            return channel
        channel |= {
            "name": self.name,
            "guild_id": self.guild.id,
            "parent_id": None,
            "position": 0,
            "permission_overwrites": [],
            "nsfw": False,
            "topic": None,
            "rate_limit_per_user": 0,
        }
        if self.kind is Kind.VOICE:
            channel |= {"bitrate": 64000, "user_limit": 0, "rtc_region": None}
        if self.kind is Kind.THREAD:
            assert self.parent is not None
            channel |= {
                "parent_id": self.parent.id,
                "owner_id": APPLICATION_ID,
                "message_count": 0,
                "member_count": 1,
                "thread_metadata": {
                    "archived": self.archived,
                    "locked": self.locked,
                    "auto_archive_duration": 1440,
                    "archive_timestamp": "2024-01-01T00:00:00+00:00",
                },
            }
        if viewer is not None:
            channel["permissions"] = str(int(self.permissions_of(viewer)))
        return channel


@dataclass(eq=False)
class Attachment:
    """A file of a message."""

    id: str
    name: str
    data: bytes
    description: str | None = None

    def json(self, base: str) -> Json:
        url = f"{base}/attachments/{self.id}/{self.name}"
        return {
            "id": self.id,
            "filename": self.name,
            "size": len(self.data),
            "url": url,
            "proxy_url": url,
            "description": self.description,
            "content_type": "application/octet-stream",
        }


@dataclass(eq=False, repr=False)
class Message:
    """A message.

    Attributes:
        id: Its id.
        place: Where it is.
        author: Who posted it; None is the bot.
        created_at: When, in seconds since 1970.
        content: Its text.
        embeds: Its embeds.
        components: Its rows of buttons and selects.
        attachments: Its files.
        flags: Discord's flags.
        edits: How often it was edited.
        edited_at: When it was edited last.
        deleted: Whether it is gone.
        interaction: What the bot responds to with it.
        only_for: The one person who sees it; None means everybody in the place.
        answers: The message that it replies to.
        mentions: The people and the bot (as None) whom it mentions.
        nonce: With which the bot posted it.
    """

    id: str
    place: Place
    author: Person | None
    created_at: float
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    flags: int = 0
    edits: int = 0
    edited_at: float | None = None
    deleted: bool = False
    interaction: "Interaction | None" = None
    only_for: Person | None = None
    answers: "Message | None" = None
    mentions: "list[Person | None]" = field(default_factory=list)
    nonce: str | None = None

    def __repr__(self) -> str:
        seen = "" if self.only_for is None else f" only for {self.only_for.name}"
        text = "thinking" if self.loading else repr(self.text[:200])
        return f"<Message{seen}{' deleted' * self.deleted}: {text} {self.labels}>"

    @property
    def loading(self) -> bool:
        """Whether it only says that the bot thinks."""
        return bool(self.flags & LOADING)

    @property
    def private(self) -> bool:
        """Whether one person alone sees it."""
        return bool(self.flags & EPHEMERAL)

    def seen_by(self, person: Person) -> bool:
        """Return whether a person who is in the place sees it."""
        return not self.deleted and (self.only_for is None or self.only_for is person)

    @property
    def text(self) -> str:
        """All its text, a part a line: the content, then the embeds."""
        parts = [self.content, *(part for embed in self.embeds for part in embed_texts(embed))]
        return "\n".join(part for part in parts if part)

    def items(self) -> Iterator[Json]:
        """Yield its buttons and selects."""
        for row in self.components:
            yield from row["components"]

    @property
    def labels(self) -> list[str]:
        """The labels of its buttons."""
        return [item["label"] for item in self.items() if "label" in item]

    def item(self, name: str) -> Json:
        """Return the button or select with a label or an id that a person can use now."""
        found = [
            item for item in self.items() if name in {item.get("label"), item.get("custom_id")}
        ]
        assert not self.deleted, "the message is gone"
        assert found, f"no {name!r} below the message, only {self.labels}"
        assert not found[0].get("disabled"), f"{name!r} is disabled"
        return found[0]

    def json(self, base: str) -> Json:
        """Return it as Discord sends it."""
        message: Json = {
            "id": self.id,
            "type": self._type(),
            "channel_id": self.place.id,
            "author": BOT if self.author is None else self.author.user(),
            "content": self.content,
            "embeds": self.embeds,
            "components": self.components,
            "attachments": [attachment.json(base) for attachment in self.attachments],
            "flags": self.flags,
            "timestamp": _iso(self.created_at),
            "edited_timestamp": None if self.edited_at is None else _iso(self.edited_at),
            "mentions": [BOT if user is None else user.user() for user in self.mentions],
            "mention_roles": [],
            "mention_everyone": False,
            "pinned": False,
            "tts": False,
        }
        if self.answers is not None:
            message["message_reference"] = {
                "type": 0,
                "message_id": self.answers.id,
                "channel_id": self.answers.place.id,
            }
            answered = replace(self.answers, answers=None)
            message["referenced_message"] = None if answered.deleted else answered.to_bot(base)
        if self.interaction is not None:
            message["webhook_id"] = message["application_id"] = APPLICATION_ID
            message["interaction_metadata"] = self.interaction.metadata()
        return message

    def to_bot(self, base: str) -> Json:
        """Return it as Discord sends it to the bot, which lacks the intent for contents.

        The bot gets the content in direct messages, and where it is mentioned.
        """
        message = self.json(base)
        if not (self.author is None or self.place.guild is None or None in self.mentions):
            message |= {"content": "", "embeds": [], "components": [], "attachments": []}
        return message

    def _type(self) -> int:
        if self.interaction is None and self.answers is not None:
            return 19
        if self.interaction is None or self.interaction.type != InteractionType.COMMAND:
            return 0
        if self.interaction.response is not self:
            return 19
        return 20 if self.interaction.data["type"] == 1 else 23


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


class InteractionType(IntEnum):
    """Types of interactions."""

    COMMAND = 2
    COMPONENT = 3
    AUTOCOMPLETE = 4
    SUBMISSION = 5


@dataclass(eq=False, repr=False)
class Interaction:
    """Something that a person did with the app.

    Attributes:
        id: Its id.
        token: The token with which the app responds.
        type: Its type.
        data: What was done, as JSON.
        place: Where.
        person: Who did it.
        owners: For whom the app is installed, by type of installation.
        created_at: When, in seconds since 1970.
        message: The message with the button or select.
        callback: The type of the first response; None before it.
        response: The message that responds, or that the first response updates.
        opened: The form that is the first response.
        choices: The suggestions that are the first response.
        followups: Later messages.
        failed: Codes with which responses to it were refused.
    """

    id: str
    token: str
    type: InteractionType
    data: Json
    place: Place
    person: Person
    owners: dict[str, str]
    created_at: float
    message: Message | None = None
    callback: int | None = None
    response: Message | None = None
    opened: Json | None = None
    choices: list[Json] | None = None
    followups: list[Message] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        name = self.data.get("name") or self.data.get("custom_id")
        return f"<{self.type.name} {name} of {self.person.name}, refused with {self.failed}>"

    @property
    def external(self) -> bool:
        """Whether only a person has installed the app, and not the server."""
        return set(self.owners) == {"1"}

    def messages(self) -> list[Message]:
        """Return every message that responds and is still there."""
        shown = [] if self.response is None else [self.response]
        return [message for message in (*shown, *self.followups) if not message.deleted]

    def metadata(self) -> Json:
        """Return what a message says of the interaction that it responds to."""
        metadata: Json = {
            "id": self.id,
            "type": int(self.type),
            "user": self.person.user(),
            "authorizing_integration_owners": self.owners,
        }
        if self.message is not None:
            metadata["interacted_message_id"] = self.message.id
        return metadata


@dataclass
class World:
    """Everything that exists, by id; interactions by token."""

    clock: Clock
    people: dict[str, Person] = field(default_factory=dict)
    guilds: dict[str, Guild] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    interactions: dict[str, Interaction] = field(default_factory=dict)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    commands: dict[str | None, list[Json]] = field(default_factory=dict)
    """By server; None has those of all places."""
    _last_id: int = 0

    def new_id(self) -> str:
        """Return an id that contains the time."""
        at = int((self.clock() - _EPOCH) * 1000) << 22
        self._last_id = max(self._last_id + 1, at)
        return str(self._last_id)

    def messages_in(self, place: Place) -> list[Message]:
        """Return the messages of a place, oldest first."""
        return [m for m in self.messages.values() if m.place is place and not m.deleted]

    def dm_with(self, person: Person) -> Place:
        """Return the conversation of a person with the bot."""
        for place in self.places.values():
            if place.context is Context.BOT_DM and place.people == (person,):
                return place
        place = Place(self.new_id(), Kind.DM, people=(person,), context=Context.BOT_DM)
        self.places[place.id] = place
        return place
