"""Play the people who use the bot: what they do becomes interactions of Discord's client.

The client lets nobody send what it can see to be wrong: an option that a command does not have, a
button that is disabled. A test that tries fails at once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.wire.changes import PATIENCE_SECONDS, Changes, T
from tests.wire.gateway import Gateway, Intent
from tests.wire.rules import select_bounds
from tests.wire.state import (
    APPLICATION_ID,
    MEMBER,
    Attachment,
    Context,
    Guild,
    Interaction,
    InteractionType,
    Json,
    Kind,
    Message,
    Permission,
    Person,
    Place,
    World,
)

File = tuple[str, bytes]
"""The name and the content of a file that somebody attaches."""
Value = str | float | File | Person | Place

_SUBCOMMANDS = (1, 2)
_STRING, _WHOLE, _BOOLEAN, _USER, _CHANNEL, _NUMBER, _FILE = 3, 4, 5, 6, 7, 10, 11
_ROLE_SELECT = 6
_PYTHON: dict[int, type | tuple[type, ...]] = {
    _STRING: str,
    _WHOLE: int,
    _BOOLEAN: bool,
    _USER: Person,
    _CHANNEL: Place,
    _NUMBER: (int, float),
    _FILE: tuple,
}


class Exchange:
    """What a person did, and what the bot makes of it.

    Attributes:
        interaction: What they did.
    """

    def __init__(self, people: "People", interaction: Interaction, payload: Json) -> None:
        self.interaction = interaction
        self._people = people
        self._payload = payload
        self._edits = interaction.message.edits if interaction.message is not None else 0

    @property
    def token(self) -> str:
        """The token of the interaction."""
        return self.interaction.token

    @property
    def person(self) -> Person:
        """Who did it."""
        return self.interaction.person

    async def acknowledged(self) -> int:
        """Wait for the first response; return its type."""
        return await self.until(lambda: self.interaction.callback, "a first response")

    async def reply(
        self,
        shows: Callable[[Message], bool] = bool,
        patience: float = PATIENCE_SECONDS,
    ) -> Message:
        """Wait for the message that responds, or the edit of the one with the button.

        Args:
            shows: Whether it is the one: the bot may first show that the request waits.
            patience: Seconds after which it fails.
        """

        def found() -> Message | None:
            message = self.interaction.response
            if message is None or message.loading or message.deleted:
                return None
            if message is self.interaction.message and message.edits == self._edits:
                return None
            return message if shows(message) else None

        return await self.until(found, "a reply", patience)

    async def says(self, text: str) -> Message:
        """Wait for a message with a text: the response, or a later one."""

        def found() -> Message | None:
            fits = (message for message in self.messages() if text in message.text)
            return next(fits, None)

        return await self.until(found, f"a message with {text!r}")

    async def private(self, text: str = "") -> Message:
        """Wait for a message with a text; check that its person alone sees it."""
        message = await self.says(text)
        assert message.private, f"everybody sees: {message.text}"
        assert message.only_for is self.person
        return message

    def messages(self) -> list[Message]:
        """Return the messages that respond so far, placeholders excepted."""
        source = self.interaction.message
        return [
            message
            for message in self.interaction.messages()
            if not message.loading and not (message is source and message.edits == self._edits)
        ]

    async def form(self) -> Json:
        """Wait for the form that opens."""
        return await self.until(lambda: self.interaction.opened, "a form")

    async def suggestions(self) -> list[Json]:
        """Wait for the suggestions, of which there may be none."""
        found = await self.until(
            lambda: None if self.interaction.choices is None else [self.interaction.choices],
            "suggestions",
        )
        return found[0]

    async def repeat(self) -> None:
        """Deliver the same interaction once more, as Discord may."""
        await self._people.gateway.send("INTERACTION_CREATE", self._payload)

    async def until(
        self,
        condition: Callable[[], T | None],
        what: str,
        patience: float = PATIENCE_SECONDS,
    ) -> T:
        """Wait until a condition returns something true, and return that."""
        data = self.interaction.data
        name = data.get("name") or data.get("custom_id")
        return await self._people.changes.until(condition, f"{what} to {name!r}", patience)


class People:
    """Make people and places, and let the people act.

    Attributes:
        world: What exists.
        gateway: Sends what happens to the bot.
        changes: Wakes up the tests.
        clock: The time, which tests move.
        owner: Who owns the application.
        team: The team that owns it instead; None means the owner alone.

    Args:
        base: Returns the address of the API, which the addresses of files start with.
    """

    owner: Person

    def __init__(
        self, world: World, gateway: Gateway, changes: Changes, base: Callable[[], str]
    ) -> None:
        self.world = world
        self.gateway = gateway
        self.changes = changes
        self.clock = world.clock
        self.team: Json | None = None
        self._base = base

    # Who and what exists.

    def person(self, name: str, *, installed: bool = False) -> Person:
        """Make a person.

        Args:
            name: The name.
            installed: Whether they have installed the app for themselves.
        """
        person = Person(self.world.new_id(), name, installed)
        self.world.people[person.id] = person
        return person

    async def guild(
        self, name: str, *, installed: bool = True, public: bool = True, locale: str = "en-US"
    ) -> Guild:
        """Make a server; the bot, if it is connected, joins it.

        Args:
            name: The name.
            installed: Whether the bot is a member.
            public: Whether apps that only their user has installed may answer for all to see.
            locale: Its language.
        """
        guild = Guild(self.world.new_id(), name, installed, public, locale=locale)
        self.world.guilds[guild.id] = guild
        if installed and self.gateway.session is not None:
            await self.gateway.send("GUILD_CREATE", self._guild(guild), Intent.GUILDS)
        return guild

    async def channel(
        self,
        guild: Guild,
        name: str,
        kind: Kind = Kind.TEXT,
        *,
        parent: Place | None = None,
        allowed: Permission | None = MEMBER,
    ) -> Place:
        """Make a channel or, with a parent, a thread or a post of a forum.

        Args:
            guild: The server.
            name: The name.
            kind: Its type.
            parent: The channel of a thread.
            allowed: What the bot may do there; None without access.
        """
        if parent is not None:
            kind = Kind.THREAD
        place = Place(self.world.new_id(), kind, name, guild, parent, allowed=allowed)
        self.world.places[place.id] = place
        if place.bot_is_there and self.gateway.session is not None:
            event = "THREAD_CREATE" if parent is not None else "CHANNEL_CREATE"
            await self.gateway.send(event, place.channel(), Intent.GUILDS)
        return place

    def direct(self, person: Person) -> Place:
        """Return the conversation of a person with the bot."""
        return self.world.dm_with(person)

    def between(self, *people: Person) -> Place:
        """Make a conversation of people without the bot: of two, or a group."""
        kind = Kind.DM if len(people) == len(("one", "other")) else Kind.GROUP
        place = Place(self.world.new_id(), kind, people=people, context=Context.PRIVATE_CHANNEL)
        self.world.places[place.id] = place
        return place

    def post(self, by: Person, at: Place, content: str) -> Message:
        """Let a person post a message of which the bot gets no event."""
        message = Message(self.world.new_id(), at, by, self.clock(), content)
        self.world.messages[message.id] = message
        return message

    async def say(
        self,
        content: str,
        *,
        by: Person,
        at: Place,
        answers: Message | None = None,
        notifies: bool = True,
    ) -> Message:
        """Let a person post a message, and tell the bot as Discord does.

        Args:
            content: The text; `@Bard` in it mentions the bot.
            by: The person.
            at: Where.
            answers: The message that it replies to.
            notifies: Whether its author is notified, and so mentioned. A response to an
                interaction has none to notify.
        """
        message = self.post(by, at, content.replace("@Bard", f"<@{APPLICATION_ID}>"))
        message.answers = answers
        named = message.content != content
        responds = answers is not None and answers.interaction is not None
        if answers is not None and notifies and not responds:
            message.mentions.append(answers.author)
        if named and None not in message.mentions:
            message.mentions.append(None)
        await self.deliver(message)
        return message

    async def deliver(self, message: Message, event: str = "MESSAGE_CREATE") -> None:
        """Send an event of a person's message to the bot, also once more."""
        place, person = message.place, message.author
        assert person is not None
        data = message.to_bot(self._base())
        if place.guild is None:
            await self.gateway.send(event, data, Intent.DIRECT_MESSAGES)
            return
        member = {**place.guild.member(person)}
        del member["user"]
        data |= {"guild_id": place.guild.id, "member": member}
        await self.gateway.send(event, data, Intent.GUILD_MESSAGES)

    async def edit_message(self, message: Message, content: str) -> None:
        """Let a person edit their message."""
        message.content = content.replace("@Bard", f"<@{APPLICATION_ID}>")
        message.mentions = [None] if message.content != content else []
        message.edited_at = self.clock()
        await self.deliver(message, "MESSAGE_UPDATE")

    def seen(self, at: Place, by: Person) -> list[Message]:
        """Return the messages of a place that a person sees, placeholders included."""
        return [message for message in self.world.messages_in(at) if message.seen_by(by)]

    async def until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait until a condition returns something true, and return that."""
        return await self.changes.until(condition, what)

    # What goes away.

    async def delete_message(self, message: Message) -> None:
        """Let a moderator delete a message."""
        await self.delete_messages([message])

    async def delete_messages(self, messages: Sequence[Message]) -> None:
        """Let a moderator delete messages, several at once."""
        place = messages[0].place
        for message in messages:
            message.deleted = True
        ids = [message.id for message in messages]
        data: Json = {"channel_id": place.id}
        if place.guild is not None:
            data["guild_id"] = place.guild.id
        intent = Intent.DIRECT_MESSAGES if place.guild is None else Intent.GUILD_MESSAGES
        if len(ids) == 1:
            await self.gateway.send("MESSAGE_DELETE", {**data, "id": ids[0]}, intent)
        else:
            await self.gateway.send("MESSAGE_DELETE_BULK", {**data, "ids": ids}, intent)

    async def delete_channel(self, place: Place) -> None:
        """Delete a channel or a thread, with the threads in it."""
        place.deleted = True
        for thread in self.world.places.values():
            thread.deleted |= thread.parent is place
        event = "CHANNEL_DELETE" if place.parent is None else "THREAD_DELETE"
        await self.gateway.send(event, place.channel(), Intent.GUILDS)

    async def leave(self, guild: Guild) -> None:
        """Remove the bot from a server."""
        guild.deleted = True
        guild.installed = False
        await self.gateway.send("GUILD_DELETE", {"id": guild.id}, Intent.GUILDS)

    # What people do.

    async def slash(
        self, name: str, /, *, by: Person | None = None, at: Place | None = None, **options: Value
    ) -> Exchange:
        """Send a command: of the owner without a person, in a direct message without a place."""
        person, place = self._who_and_where(by, at)
        command, data = self._command_data(name, person, place, options)
        return await self._send(
            InteractionType.COMMAND, data, person, place, installs=command.get("integration_types")
        )

    async def typed(
        self,
        name: str,
        option: str,
        text: str,
        *,
        by: Person | None = None,
        at: Place | None = None,
    ) -> Exchange:
        """Type in an option of a command that has suggestions."""
        person, place = self._who_and_where(by, at)
        command, data = self._command_data(name, person, place, {option: text}, typing=option)
        return await self._send(
            InteractionType.AUTOCOMPLETE,
            data,
            person,
            place,
            installs=command.get("integration_types"),
        )

    async def menu(self, name: str, message: Message, *, by: Person) -> Exchange:
        """Choose a command from the menu of a message."""
        assert message.seen_by(by), f"{by.name} does not see that message"
        command = self._command(name, message.place, kind=3)
        data = {
            "id": command["id"],
            "name": name,
            "type": 3,
            "target_id": message.id,
            "resolved": {"messages": {message.id: message.json(self._base())}},
        }
        return await self._send(
            InteractionType.COMMAND,
            data,
            by,
            message.place,
            installs=command.get("integration_types"),
        )

    async def press(self, message: Message, name: str, *, by: Person) -> Exchange:
        """Press the button with a label or a custom id."""
        button = message.item(name)
        assert button["type"] == 2, f"{name!r} is no button"
        data = {"custom_id": button["custom_id"], "component_type": 2, "id": button["id"]}
        return await self._use(message, data, by)

    async def choose(
        self, message: Message, name: str, values: Sequence[str | Place | Guild], *, by: Person
    ) -> Exchange:
        """Choose values, channels, or the role of everybody in a server, in a select by its id."""
        select = message.item(name)
        low, high = select_bounds(select)
        assert low <= len(values) <= high, f"not from {low} to {high} values"
        data: Json = {"custom_id": name, "component_type": select["type"], "id": select["id"]}
        if "options" in select:
            assert set(values) <= {option["value"] for option in select["options"]}
            return await self._use(message, {**data, "values": list(values)}, by)
        if select["type"] == _ROLE_SELECT:
            roles = {guild.id: guild.everyone() for guild in values if isinstance(guild, Guild)}
            return await self._use(
                message, {**data, "values": [*roles], "resolved": {"roles": roles}}, by
            )
        places = [value for value in values if isinstance(value, Place)]
        allowed = select.get("channel_types")
        assert all(not allowed or place.kind in allowed for place in places)
        resolved = {"channels": {place.id: place.channel(by) for place in places}}
        data |= {"values": [place.id for place in places], "resolved": resolved}
        return await self._use(message, data, by)

    async def submit(self, opened: Exchange, values: dict[str, str]) -> Exchange:
        """Fill in a form by the labels of its fields, and send it; the others stay as they are."""
        form = await opened.form()
        fields = list(_text_inputs(form["components"]))
        unknown_labels = values.keys() - {label for label, _ in fields}
        assert not unknown_labels, f"no fields {unknown_labels}"
        filled = {
            field["custom_id"]: _typed_text(field, values.get(label)) for label, field in fields
        }
        data = {
            "custom_id": form["custom_id"],
            "components": [_submitted(component, filled) for component in form["components"]],
        }
        source = opened.interaction
        return await self._send(
            InteractionType.SUBMISSION,
            data,
            source.person,
            source.place,
            owners=source.owners,
            message=source.message,
        )

    async def _use(self, message: Message, data: Json, by: Person) -> Exchange:
        assert message.seen_by(by), f"{by.name} does not see that message"
        owners = message.interaction.owners if message.interaction is not None else None
        return await self._send(
            InteractionType.COMPONENT, data, by, message.place, owners=owners, message=message
        )

    def _who_and_where(self, by: Person | None, at: Place | None) -> tuple[Person, Place]:
        person = by or self.owner
        return person, at or self.direct(person)

    # Interactions.

    async def _send(
        self,
        kind: InteractionType,
        data: Json,
        person: Person,
        place: Place,
        *,
        owners: dict[str, str] | None = None,
        installs: Iterable[int] | None = None,
        message: Message | None = None,
    ) -> Exchange:
        assert not place.deleted, "the place is gone"
        if owners is None:
            owners = _owners(person, place, installs)
        number = self.world.new_id()
        interaction = Interaction(
            number, f"token-{number}", kind, data, place, person, owners, self.clock(), message
        )
        self.world.interactions[interaction.token] = interaction
        payload = self._payload(interaction)
        exchange = Exchange(self, interaction, payload)
        await self.gateway.send("INTERACTION_CREATE", payload)
        return exchange

    def _payload(self, interaction: Interaction) -> Json:
        place, person, guild = interaction.place, interaction.person, interaction.place.guild
        payload: Json = {
            "id": interaction.id,
            "application_id": APPLICATION_ID,
            "type": int(interaction.type),
            "token": interaction.token,
            "version": 1,
            "data": interaction.data,
            "channel_id": place.id,
            "channel": place.channel(person),
            "locale": person.locale,
            "entitlements": [],
            "authorizing_integration_owners": interaction.owners,
            "context": int(place.context),
            "app_permissions": str(int(place.app_permissions())),
            "attachment_size_limit": place.size_limit,
        }
        if guild is None:
            payload["user"] = person.user()
        else:
            payload |= {
                "guild_id": guild.id,
                "guild": {"id": guild.id, "locale": guild.locale, "features": []},
                "guild_locale": guild.locale,
                "member": guild.member(person, place.permissions_of(person)),
            }
        if interaction.message is not None:
            payload["message"] = interaction.message.json(self._base())
        return payload

    # Commands.

    def _command(self, name: str, place: Place, kind: int) -> Json:
        scopes = (None, place.guild.id) if place.guild is not None else (None,)
        for scope in scopes:
            for command in self.world.commands.get(scope, ()):
                if (command["name"], command["type"]) == (name, kind):
                    contexts = command.get("contexts")
                    assert not contexts or place.context in contexts, f"/{name} is not open there"
                    found: Json = command
                    return found
        raise AssertionError(f"Discord's client knows no command {name!r}")

    def _command_data(
        self,
        name: str,
        person: Person,
        place: Place,
        options: dict[str, Value],
        *,
        typing: str | None = None,
    ) -> tuple[Json, Json]:
        """Return a command's definition, and the data of an interaction with it."""
        first, *inner = name.split()
        command = definition = self._command(first, place, kind=1)
        for part in inner:
            definition = _named(definition.get("options", ()), part)
        known = definition.get("options", ())
        assert not any(option["type"] in _SUBCOMMANDS for option in known), f"/{name} goes on"
        resolved: dict[str, dict[str, Json]] = {}
        values = []
        for key, value in options.items():
            option = _named(known, key)
            if isinstance(value, Place):
                resolved.setdefault("channels", {})[value.id] = value.channel(person)
            values.append(self._option_data(option, value, resolved, typing=key == typing))
        missing = {option["name"] for option in known if option.get("required")} - options.keys()
        assert not missing or typing, f"/{name} needs {missing}"
        for part in reversed(inner):
            values = [{"name": part, "type": 1, "options": values}]
        data = {"id": command["id"], "name": first, "type": 1, "options": values}
        return command, data | ({"resolved": resolved} if resolved else {})

    def _option_data(
        self, option: Json, value: Value, resolved: dict[str, dict[str, Json]], *, typing: bool
    ) -> Json:
        data: Json = {"name": option["name"], "type": option["type"], "value": value}
        if typing:
            assert option.get("autocomplete"), f"{option['name']} has no suggestions"
            return {**data, "focused": True}
        _require_allowed(option, value)
        if isinstance(value, tuple):
            attachment = Attachment(self.world.new_id(), *value)
            self.world.attachments[attachment.id] = attachment
            resolved.setdefault("attachments", {})[attachment.id] = attachment.json(self._base())
            data["value"] = attachment.id
        if isinstance(value, Person):
            resolved.setdefault("users", {})[value.id] = value.user()
            data["value"] = value.id
        if isinstance(value, Place):
            data["value"] = value.id
        return data

    # What the bot learns when it connects.

    def guild_payloads(self) -> Iterator[Json]:
        """Yield the servers in which the bot is."""
        for guild in self.world.guilds.values():
            if guild.installed and not guild.deleted:
                yield self._guild(guild)

    def _guild(self, guild: Guild) -> Json:
        places = [
            place
            for place in self.world.places.values()
            if place.guild is guild and place.bot_is_there and not place.deleted
        ]
        return {
            "id": guild.id,
            "name": guild.name,
            "owner_id": self.owner.id,
            "preferred_locale": guild.locale,
            "roles": [guild.everyone()],
            "emojis": [],
            "features": [],
            "member_count": 2,
            "large": False,
            "members": [guild.bot_member()],
            "channels": [place.channel() for place in places if place.parent is None],
            "threads": [place.channel() for place in places if place.parent is not None],
            "presences": [],
            "voice_states": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
        }

    def application(self) -> Json:
        """Return what the bot learns of its application."""
        return {
            "id": APPLICATION_ID,
            "name": "Bard",
            "icon": None,
            "description": "",
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "0" * 64,
            "flags": 0,
            "team": self.team,
            "owner": self.owner.user(),
        }


def _owners(person: Person, place: Place, installs: Iterable[int] | None) -> dict[str, str]:
    """Return for whom the app is installed, as far as a command is for such installations."""
    owners = {}
    if place.context is Context.BOT_DM:
        owners["0"] = "0"
    elif place.guild is not None and place.guild.installed:
        owners["0"] = place.guild.id
    if person.installed:
        owners["1"] = person.id
    if installs is not None:
        owners = {key: owner for key, owner in owners.items() if int(key) in set(installs)}
    assert owners, f"{person.name} has no such command there"
    return owners


def _named(options: Iterable[Json], name: str) -> Json:
    for option in options:
        if option["name"] == name:
            return option
    raise AssertionError(f"the command has no {name!r}")


def _require_allowed(option: Json, value: Value) -> None:
    """Fail for a value that Discord's client does not send."""
    name, kind = option["name"], option["type"]
    assert isinstance(value, _PYTHON[kind]), f"{name} cannot be {value!r}"
    assert isinstance(value, bool) == (kind == _BOOLEAN), f"{name} cannot be {value!r}"
    if choices := option.get("choices"):
        assert value in {choice["value"] for choice in choices}, f"{name} cannot be {value!r}"
    if isinstance(value, Place):
        allowed = option.get("channel_types")
        assert not allowed or value.kind in allowed, f"{name} cannot be {value!r}"
    if isinstance(value, str):
        size = len(value)
        assert option.get("min_length", 0) <= size <= option.get("max_length", 6000), name
    elif kind in {_WHOLE, _NUMBER}:
        low, high = option.get("min_value", value), option.get("max_value", value)
        assert low <= value <= high, f"{name} cannot be {value!r}"


def _text_inputs(components: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """Yield the labels and fields of a form."""
    for component in components:
        if "component" in component:
            yield component["label"], component["component"]
        else:
            for field in component["components"]:
                yield field["label"], field


def _typed_text(field: Json, text: str | None) -> str:
    """Return what is sent of a field in which somebody has typed a text, or nothing."""
    value = (field.get("value") or "") if text is None else text
    assert value or not field.get("required", True), f"{field['custom_id']} is required"
    if value:
        low, high = field.get("min_length") or 0, field.get("max_length") or 4000
        assert low <= len(value) <= high, f"{field['custom_id']} is not that long"
    return value


def _submitted(component: Json, filled: dict[str, str]) -> Json:
    """Return a component of a form as it is sent."""

    def value(field: Json) -> Json:
        return {
            "id": field.get("id", 0),
            "type": field["type"],
            "custom_id": field["custom_id"],
            "value": filled[field["custom_id"]],
        }

    if "component" in component:
        return {"type": 18, "id": 0, "component": value(component["component"])}
    return {"type": 1, "id": 0, "components": [value(field) for field in component["components"]]}
