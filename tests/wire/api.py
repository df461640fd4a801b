"""What requests do to the world: each method carries one out, or refuses it with Discord's code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.wire import rules
from tests.wire.gateway import Gateway, Intent
from tests.wire.limits import Limits
from tests.wire.rules import EPHEMERAL, LOADING, Problem
from tests.wire.state import (
    APPLICATION_ID,
    BOT,
    FIRST_RESPONSE_SECONDS,
    MAX_EXTERNAL_FOLLOWUPS,
    OLD_MESSAGE_SECONDS,
    TOKEN_SECONDS,
    Attachment,
    Context,
    Interaction,
    InteractionType,
    Json,
    Kind,
    Message,
    Permission,
    Place,
    World,
)

MAX_CREATED_COMMANDS = 200
"""Commands that an app may create in a day, for each server and for all places."""

MAX_HISTORY = 100
"""Messages that one request returns at most."""
NONCE_SECONDS = 180.0
"""How long a nonce is remembered. Discord says: a few minutes."""

_MESSAGE, _DEFERRED, _DEFERRED_UPDATE, _UPDATE, _CHOICES, _MODAL = 4, 5, 6, 7, 8, 9


class RefusedError(Exception):
    """A request that Discord refuses.

    Attributes:
        status: Of the answer.
        body: Its JSON.
        problems: The rules that the request's body breaks.
    """

    def __init__(self, status: int, body: Json, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(f"{status} {body.get('code')}: {body.get('message')}")
        self.status = status
        self.body = body
        self.problems = problems


def refused(status: int, code: int, message: str) -> RefusedError:
    """Return the refusal with one of Discord's codes."""
    return RefusedError(status, {"message": message, "code": code})


def unknown(code: int) -> RefusedError:
    """Return the refusal for something that does not exist."""
    names = {
        10003: "Channel",
        10004: "Guild",
        10007: "Member",
        10008: "Message",
        10013: "User",
        10015: "Webhook",
        10062: "interaction",
    }
    return refused(404, code, f"Unknown {names[code]}")


@dataclass(frozen=True)
class Body:
    """What a request sends: JSON, and files by their numbers."""

    json: Any = None
    files: Mapping[int, tuple[str, bytes]] = field(default_factory=dict)


class Api:
    """Carry requests out.

    Args:
        world: What exists.
        gateway: Sends the events.
        limits: Counts the edits of old messages.
        base: Returns the address of this server.
    """

    def __init__(
        self, world: World, gateway: Gateway, limits: Limits, base: Callable[[], str]
    ) -> None:
        self._world = world
        self._gateway = gateway
        self._limits = limits
        self._base = base
        self._created: dict[str | None, list[float]] = {}

    # Interactions: https://discord.com/developers/docs/interactions/receiving-and-responding

    async def respond(
        self, interaction_id: str, token: str, body: Body, *, with_response: bool
    ) -> Json | None:
        """Give the first response to an interaction."""
        interaction = self._world.interactions.get(token)
        if interaction is None or interaction.id != interaction_id:
            raise unknown(10062)
        if interaction.callback is not None:
            raise self._failed(
                interaction, refused(400, 40060, "Interaction has already been acknowledged.")
            )
        if self._world.clock() - interaction.created_at > FIRST_RESPONSE_SECONDS:
            raise self._failed(interaction, unknown(10062))
        kind, data = body.json["type"], body.json.get("data") or {}
        self._require_open(interaction.place)
        if kind in {_MESSAGE, _DEFERRED}:
            await self._create_response(interaction, data, body, loading=kind == _DEFERRED)
        elif kind in {_DEFERRED_UPDATE, _UPDATE}:
            interaction.response = interaction.message
            if kind == _UPDATE:
                await self._edit_own(interaction, interaction.message, Body(data, body.files))
        elif kind == _CHOICES:
            interaction.choices = data["choices"]
        else:
            interaction.opened = data
        interaction.callback = kind
        return self._callback_answer(interaction) if with_response else None

    async def _create_response(
        self, interaction: Interaction, data: Json, body: Body, *, loading: bool
    ) -> None:
        message = self._new_message(interaction, data)
        if loading:
            message.flags |= LOADING
        else:
            self._fill(message, Body(data, body.files))
        interaction.response = message
        await self._publish(message)

    def _new_message(self, interaction: Interaction, data: Json) -> Message:
        """Return a message that nobody has seen yet, for all or for one as Discord decides."""
        flags = data.get("flags") or 0
        if interaction.place.private_only:
            flags |= EPHEMERAL
        return Message(
            self._world.new_id(),
            interaction.place,
            None,
            self._world.clock(),
            flags=flags,
            interaction=interaction,
            only_for=interaction.person if flags & EPHEMERAL else None,
        )

    def _callback_answer(self, interaction: Interaction) -> Json:
        answer: Json = {"interaction": {"id": interaction.id, "type": int(interaction.type)}}
        message, kind = interaction.response, interaction.callback
        if message is not None and kind in {_MESSAGE, _DEFERRED}:
            answer["interaction"] |= {
                "response_message_id": message.id,
                "response_message_loading": message.loading,
                "response_message_ephemeral": message.private,
            }
        if message is not None and kind in {_MESSAGE, _UPDATE}:
            answer["resource"] = {"type": kind, "message": message.json(self._base())}
        return answer

    async def original(self, token: str) -> Json:
        """Return the first response."""
        return self._original(self._live(token)).json(self._base())

    async def edit_original(self, token: str, body: Body) -> Json:
        """Edit the first response, or replace its placeholder."""
        interaction = self._live(token)
        message = self._original(interaction)
        await self._edit_own(interaction, message, body)
        return message.json(self._base())

    async def delete_original(self, token: str) -> None:
        """Delete the first response, also a placeholder."""
        await self._delete(self._original(self._live(token)))

    async def follow_up(self, token: str, body: Body) -> Json:
        """Send a later message.

        The first one after a deferred response replaces its placeholder, for the people who see
        that one: its own flag is ignored.
        """
        interaction = self._live(token)
        self._require_open(interaction.place)
        placeholder = interaction.response
        if placeholder is not None and placeholder.loading and not placeholder.deleted:
            await self._edit_own(interaction, placeholder, body)
            return placeholder.json(self._base())
        if interaction.external and len(interaction.followups) >= MAX_EXTERNAL_FOLLOWUPS:
            message = "This interaction has hit the maximum number of follow up messages"
            raise self._failed(interaction, refused(400, 40094, message))
        created = self._new_message(interaction, body.json)
        self._fill(created, body)
        interaction.followups.append(created)
        await self._publish(created)
        return created.json(self._base())

    async def followup(self, token: str, message_id: str) -> Json:
        """Return a message of an interaction."""
        return self._own(self._live(token), message_id).json(self._base())

    async def edit_followup(self, token: str, message_id: str, body: Body) -> Json:
        """Edit a message of an interaction."""
        interaction = self._live(token)
        message = self._own(interaction, message_id)
        await self._edit_own(interaction, message, body)
        return message.json(self._base())

    async def delete_followup(self, token: str, message_id: str) -> None:
        """Delete a message of an interaction."""
        await self._delete(self._own(self._live(token), message_id))

    def _live(self, token: str) -> Interaction:
        """Return the acknowledged interaction of a token that is not dead yet."""
        interaction = self._world.interactions.get(token)
        if interaction is None or self._world.clock() - interaction.created_at > TOKEN_SECONDS:
            error = refused(401, 50027, "Invalid Webhook Token")
            raise error if interaction is None else self._failed(interaction, error)
        if interaction.callback is None or interaction.type is InteractionType.AUTOCOMPLETE:
            raise self._failed(interaction, unknown(10015))
        return interaction

    def _original(self, interaction: Interaction) -> Message:
        if interaction.response is None or interaction.response.deleted:
            raise self._failed(interaction, unknown(10008))
        return interaction.response

    def _own(self, interaction: Interaction, message_id: str) -> Message:
        for message in interaction.messages():
            if message.id == message_id:
                return message
        raise self._failed(interaction, unknown(10008))

    async def _edit_own(
        self, interaction: Interaction, message: Message | None, body: Body
    ) -> None:
        if message is None or message.deleted:
            raise self._failed(interaction, unknown(10008))
        self._require_open(message.place, editing=True)
        await self._edit(message, body)

    @staticmethod
    def _failed(interaction: Interaction, error: RefusedError) -> RefusedError:
        interaction.failed.append(error.body["code"])
        return error

    @staticmethod
    def _require_open(place: Place, *, editing: bool = False) -> None:
        """Refuse a message in a place that is gone or closed.

        A new message opens an archived thread again; an edit does not.
        """
        if place.deleted or (place.guild is not None and place.guild.deleted):
            raise unknown(10003)
        if place.archived and (editing or place.locked):
            raise refused(400, 50083, "Thread is archived")
        place.archived = False

    # Messages, through their channel: https://discord.com/developers/docs/resources/message

    async def channel(self, channel_id: str) -> Json:
        """Return a channel."""
        return self._place(channel_id).channel()

    async def message(self, channel_id: str, message_id: str) -> Json:
        """Return a message."""
        return self._message(self._readable(channel_id), message_id).json(self._base())

    async def messages(
        self, channel_id: str, limit: int = 50, before: str | None = None
    ) -> list[Json]:
        """Return the newest messages, or the newest before one, the newest first."""
        if not 1 <= limit <= MAX_HISTORY:
            raise refused(400, 50035, "Invalid Form Body")
        found = [
            message
            for message in self._world.messages_in(self._readable(channel_id))
            if not message.private and (before is None or int(message.id) < int(before))
        ]
        return [message.to_bot(self._base()) for message in found[: -limit - 1 : -1]]

    async def post(self, channel_id: str, body: Body) -> Json:
        """Post a message."""
        place = self._place(channel_id)
        needed = Permission.SEND_MESSAGES
        if place.kind is Kind.THREAD:
            needed = Permission.SEND_MESSAGES_IN_THREADS
        self._require(place, needed | (Permission.ATTACH_FILES if body.files else Permission(0)))
        if place.context is Context.BOT_DM and place.people[0].closed:
            raise refused(403, 50007, "Cannot send messages to this user")
        self._require_open(place)
        nonce = body.json.get("nonce")
        if nonce is not None and body.json.get("enforce_nonce"):
            for posted in self._world.messages_in(place):
                if posted.nonce == nonce and self._recent(posted):
                    return posted.json(self._base())
        message = Message(
            self._world.new_id(),
            place,
            None,
            self._world.clock(),
            flags=body.json.get("flags") or 0,
            nonce=nonce,
            answers=self._answered(place, body.json.get("message_reference")),
        )
        self._fill(message, body)
        await self._publish(message)
        return message.json(self._base())

    def _recent(self, message: Message) -> bool:
        """Return whether the nonce of a message still counts: that of the last few minutes does."""
        return self._world.clock() - message.created_at < NONCE_SECONDS

    def _answered(self, place: Place, reference: Json | None) -> Message | None:
        """Return the message that a new one replies to."""
        if reference is None:
            return None
        if place.guild is not None and Permission.READ_MESSAGE_HISTORY not in (
            place.allowed or Permission(0)
        ):
            message = "Cannot reply without permission to read message history"
            raise refused(400, 160002, message)
        found = self._world.messages.get(str(reference["message_id"]))
        if found is None or found.deleted or found.place is not place:
            if reference.get("fail_if_not_exists", True):
                raise refused(400, 50035, "Unknown message")
            return None
        return found

    async def typing(self, channel_id: str) -> None:
        """Show that the bot is typing."""
        place = self._place(channel_id)
        thread = place.kind is Kind.THREAD
        self._require(
            place,
            Permission.SEND_MESSAGES_IN_THREADS if thread else Permission.SEND_MESSAGES,
        )

    async def edit(self, channel_id: str, message_id: str, body: Body) -> Json:
        """Edit a message."""
        place = self._place(channel_id)
        message = self._message(place, message_id)
        if message.author is not None:
            raise refused(403, 50005, "Cannot edit a message authored by another user")
        if body.files:
            self._require(place, Permission.ATTACH_FILES)
        self._require_open(place, editing=True)
        if self._world.clock() - message.created_at > OLD_MESSAGE_SECONDS:
            self._limits.take_old_edit(place.id)
        await self._edit(message, body)
        return message.json(self._base())

    async def delete(self, channel_id: str, message_id: str) -> None:
        """Delete a message."""
        place = self._place(channel_id)
        message = self._message(place, message_id)
        if message.author is not None:
            self._require(place, Permission.MANAGE_MESSAGES)
        if place.archived and place.locked:
            raise refused(400, 50083, "Thread is archived")
        await self._delete(message)

    async def open_thread(self, channel_id: str, body: Body) -> Json:
        """Open a thread that belongs to no message."""
        parent = self._place(channel_id)
        if parent.kind is not Kind.TEXT:
            raise refused(400, 50024, "Cannot execute action on this channel type")
        self._require(parent, Permission.CREATE_PUBLIC_THREADS)
        thread = Place(
            self._world.new_id(),
            Kind.THREAD,
            body.json["name"],
            parent.guild,
            parent,
            allowed=parent.allowed,
            permissions=parent.permissions,
        )
        self._world.places[thread.id] = thread
        await self._gateway.send(
            "THREAD_CREATE", {**thread.channel(), "newly_created": True}, Intent.GUILDS
        )
        return thread.channel()

    async def open_dm(self, body: Body) -> Json:
        """Return the conversation with a person."""
        person = self._world.people.get(str(body.json.get("recipient_id")))
        if person is None:
            raise unknown(10013)
        return self._world.dm_with(person).channel()

    def _place(self, channel_id: str) -> Place:
        """Return a channel that the bot sees."""
        place = self._world.places.get(channel_id)
        if place is None or place.deleted:
            raise unknown(10003)
        if not place.bot_is_there or (place.guild is not None and place.guild.deleted):
            raise refused(403, 50001, "Missing Access")
        self._require(place, Permission.VIEW_CHANNEL)
        return place

    def _readable(self, channel_id: str) -> Place:
        place = self._place(channel_id)
        self._require(place, Permission.READ_MESSAGE_HISTORY)
        return place

    @staticmethod
    def _require(place: Place, permission: Permission) -> None:
        if place.guild is None or place.allowed is None or permission in place.allowed:
            return
        if permission is Permission.VIEW_CHANNEL:
            raise refused(403, 50001, "Missing Access")
        raise refused(403, 50013, "Missing Permissions")

    def _message(self, place: Place, message_id: str) -> Message:
        """Return a message that a channel has for everybody."""
        message = self._world.messages.get(message_id)
        if message is None or message.place is not place or message.deleted or message.private:
            raise unknown(10008)
        return message

    # What both do to a message.

    def _fill(self, message: Message, body: Body) -> None:
        """Set what a body has, and refuse a message without anything."""
        data: Json = body.json
        kept = {attachment.id: attachment for attachment in message.attachments}
        problems = tuple(rules.attached(data, body.files.keys(), kept.keys()))
        if any(problem.refused for problem in problems):
            raise RefusedError(400, rules.form_error(problems), problems=problems)
        size = sum(len(content) for _, content in body.files.values())
        if size > message.place.size_limit:
            raise refused(413, 40005, "Request entity too large")
        content = data["content"] or "" if "content" in data else message.content
        embeds = data["embeds"] or [] if "embeds" in data else message.embeds
        attachments = self._attachments(kept, data.get("attachments"), body)
        if not (content.strip() or embeds or attachments):
            raise refused(400, 50006, "Cannot send an empty message")
        message.content, message.embeds, message.attachments = content, embeds, attachments
        if "components" in data:
            message.components = _numbered(data["components"] or [])

    def _attachments(
        self, kept: Mapping[str, Attachment], listed: list[Json] | None, body: Body
    ) -> list[Attachment]:
        described = {str(item["id"]): item for item in listed or ()}
        result = [item for item in kept.values() if listed is None or item.id in described]
        for number, (name, data) in body.files.items():
            description = described.get(str(number), {}).get("description")
            attachment = Attachment(self._world.new_id(), name, data, description)
            self._world.attachments[attachment.id] = attachment
            result.append(attachment)
        return result

    async def _edit(self, message: Message, body: Body) -> None:
        self._fill(message, body)
        if not message.loading:
            message.edited_at = self._world.clock()
        message.flags &= ~LOADING
        message.edits += 1
        await self._announce("MESSAGE_UPDATE", message)

    async def _publish(self, message: Message) -> None:
        self._world.messages[message.id] = message
        await self._announce("MESSAGE_CREATE", message)

    async def _delete(self, message: Message) -> None:
        message.deleted = True
        if not message.private:
            data = {"id": message.id, "channel_id": message.place.id}
            await self._send("MESSAGE_DELETE", message.place, data)

    async def _announce(self, event: str, message: Message) -> None:
        """Tell the bot of its own message, as Discord does, unless one person alone sees it."""
        if not message.private:
            await self._send(event, message.place, message.json(self._base()))

    async def _send(self, event: str, place: Place, data: Json) -> None:
        if not place.bot_is_there or self._gateway.session is None:
            return
        if place.guild is None:
            await self._gateway.send(event, data, Intent.DIRECT_MESSAGES)
        else:
            data = {**data, "guild_id": place.guild.id}
            await self._gateway.send(event, data, Intent.GUILD_MESSAGES)

    # People.

    async def user(self, user_id: str) -> Json:
        """Return a person, or the bot."""
        if user_id == BOT["id"]:
            return BOT
        person = self._world.people.get(user_id)
        if person is None:
            raise unknown(10013)
        return person.user()

    async def member(self, guild_id: str, user_id: str) -> Json:
        """Return a member of a server."""
        guild, person = self._world.guilds.get(guild_id), self._world.people.get(user_id)
        if guild is None or not guild.installed or guild.deleted:
            raise unknown(10004)
        if person is None:
            raise unknown(10007)
        return guild.member(person)

    # Commands: https://discord.com/developers/docs/interactions/application-commands

    async def commands(self, guild_id: str | None, *, localized: bool) -> list[Json]:
        """Return the commands of all places, or those of one server alone."""
        self._require_commands(guild_id)
        commands = self._world.commands.get(guild_id, [])
        return commands if localized else _without_translations(commands)

    async def set_commands(self, guild_id: str | None, body: Body) -> list[Json]:
        """Replace all commands at once."""
        self._require_commands(guild_id)
        old = {_command_key(command): command for command in self._world.commands.get(guild_id, ())}
        new = {_command_key(command): command for command in body.json}
        entry_point = 4
        if any(kind == entry_point for kind, _ in old.keys() - new.keys()):
            message = (
                "You cannot remove this app's Entry Point command in a bulk update operation. "
                "Please include the Entry Point command in your update request or delete it "
                "separately."
            )
            raise refused(400, 50240, message)
        self._count_created(guild_id, len(new.keys() - old.keys()))
        self._world.commands[guild_id] = [
            self._command(command, old.get(key, {}), guild_id) for key, command in new.items()
        ]
        return self._world.commands[guild_id]

    def _require_commands(self, guild_id: str | None) -> None:
        guild = None if guild_id is None else self._world.guilds.get(guild_id)
        if guild_id is not None and (guild is None or not guild.installed):
            raise refused(403, 50001, "Missing Access")

    def _count_created(self, guild_id: str | None, count: int) -> None:
        now, day = self._world.clock(), 86_400
        created = [at for at in self._created.get(guild_id, ()) if now - at < day]
        if len(created) + count > MAX_CREATED_COMMANDS:
            message = (
                "Max number of daily application command creates has been reached "
                f"({MAX_CREATED_COMMANDS})"
            )
            raise refused(400, 30034, message)
        self._created[guild_id] = created + [now] * count

    def _command(self, command: Json, old: Json, guild_id: str | None) -> Json:
        """Return a command as Discord stores it: with ids, and with its defaults."""
        permissions = command.get("default_member_permissions")
        stored: Json = {
            "id": old.get("id") or self._world.new_id(),
            "application_id": APPLICATION_ID,
            "version": self._world.new_id(),
            "type": command.get("type") or 1,
            "name": command["name"],
            "name_localizations": command.get("name_localizations"),
            "description": command.get("description") or "",
            "description_localizations": command.get("description_localizations"),
            "default_member_permissions": None if permissions is None else str(permissions),
            "dm_permission": command.get("dm_permission", True),
            "nsfw": bool(command.get("nsfw")),
        }
        if guild_id is None:
            stored["contexts"] = command.get("contexts")
            stored["integration_types"] = command.get("integration_types") or [0]
        else:
            stored["guild_id"] = guild_id
        if command.get("options"):
            stored["options"] = [_stored_option(option) for option in command["options"]]
        return stored


def _without_translations(value: Any) -> Any:
    """Return commands without their translations, also those of options and choices."""
    if isinstance(value, list):
        return [_without_translations(item) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = ("name_localizations", "description_localizations")
    return {key: _without_translations(item) for key, item in value.items() if key not in hidden}


def _command_key(command: Json) -> tuple[int, str]:
    return command.get("type") or 1, command["name"]


def _stored_option(option: Json) -> Json:
    """Return an option without what it leaves at its default."""
    stored = {
        key: value
        for key, value in option.items()
        if not (value is None or value is False or value == [])  # a least value of 0 stays
    }
    if "options" in stored:
        stored["options"] = [_stored_option(inner) for inner in stored["options"]]
    return stored


def _numbered(components: list[Json]) -> list[Json]:
    """Return components with the numbers that Discord gives them."""
    numbers = iter(range(1, 100))

    def number(component: Json) -> Json:
        numbered = {"id": next(numbers), **component}
        if "components" in component:
            numbered["components"] = [number(inner) for inner in component["components"]]
        return numbered

    return [number(component) for component in components]
