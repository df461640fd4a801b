"""Check the bodies that an app sends against what Discord documents of them.

A check is a function that yields the problems of a value. The small ones at the top are combined to
those of messages, forms, suggestions and commands below. Names and codes are Discord's.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that a body breaks.

    Attributes:
        path: The field.
        code: Discord's name of the rule.
        message: What is wrong, as Discord says it.
        refused: Whether Discord refuses the body. It takes others silently: a field that it does
            not know, or mentions that this project never sends.
    """

    path: Path
    code: str
    message: str
    refused: bool = True

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path)) or 'body'}: {self.message} ({self.code})"


Check = Callable[[Any, Path], Iterator[Problem]]


def form_error(problems: Iterable[Problem]) -> dict[str, Any]:
    """Return the body with which Discord refuses another one: code 50035."""
    errors: dict[str, Any] = {}
    for problem in problems:
        place = errors
        for part in problem.path:
            place = place.setdefault(str(part), {})
        place.setdefault("_errors", []).append({"code": problem.code, "message": problem.message})
    return {"code": 50035, "message": "Invalid Form Body", "errors": errors}


# The small checks.


def text(low: int = 0, high: int = 152_133) -> Check:
    """A string of so many characters; spaces around it do not count for the fewest."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield Problem(path, "STRING_TYPE_CONVERT", f"Could not interpret {value!r} as string.")
            return
        if low and not value.strip():
            yield Problem(path, "BASE_TYPE_REQUIRED", "This field is required")
        elif not low <= len(value) <= high:
            message = f"Must be between {low} and {high} in length."
            if not low:
                message = f"Must be {high} or fewer in length."
            yield Problem(path, "BASE_TYPE_BAD_LENGTH" if low else "BASE_TYPE_MAX_LENGTH", message)
        if any("\ud800" <= character <= "\udfff" for character in value):
            yield Problem(path, "STRING_TYPE_CONVERT", "Not a Unicode text: half of a surrogate.")

    return check


def number(low: float, high: float, *, whole: bool = True) -> Check:
    """A number within bounds."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            yield Problem(path, "NUMBER_TYPE_COERCE", f"Value {value!r} is not a number.")
        elif value < low:
            yield Problem(
                path, "NUMBER_TYPE_MIN", f"Value should be greater than or equal to {low}."
            )
        elif value > high:
            yield Problem(path, "NUMBER_TYPE_MAX", f"Value should be less than or equal to {high}.")

    return check


def boolean(value: Any, path: Path) -> Iterator[Problem]:
    """`true` or `false`."""
    if not isinstance(value, bool):
        yield Problem(path, "BOOLEAN_TYPE_CONVERT", "Must be either true or false.")


def snowflake(value: Any, path: Path) -> Iterator[Problem]:
    """An id. Discord takes a number for the documented string."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, str) and value.isdecimal()):
        yield Problem(path, "NUMBER_TYPE_COERCE", f"Value {value!r} is not snowflake.")


def one_of(*allowed: object) -> Check:
    """One of some values."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not any(value == item and type(value) is type(item) for item in allowed):
            yield Problem(path, "BASE_TYPE_CHOICES", f"Value must be one of {set(allowed)}.")

    return check


def or_null(inner: Check) -> Check:
    """`null`, or what another check allows."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if value is not None:
            yield from inner(value, path)

    return check


def array(inner: Check, low: int = 0, high: int = 1521, *, unique: bool = False) -> Check:
    """A list of so many items."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield Problem(path, "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType.")
            return
        if not low <= len(value) <= high:
            message = f"Must be between {low} and {high} in length."
            yield Problem(path, "BASE_TYPE_BAD_LENGTH", message)
        if unique and len(set(map(json.dumps, value))) < len(value):
            yield Problem(path, "SET_TYPE_ALREADY_CONTAINS_VALUE", "The set has a value twice.")
        for index, item in enumerate(value):
            yield from inner(item, (*path, index))

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with some fields, and perhaps with others, but with none besides."""
    known = {**required, **(optional or {})}

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield Problem(
                path, "MODEL_TYPE_CONVERT", "Only dictionaries may be used in a ModelType"
            )
            return
        for name in required:
            if name not in value:
                yield Problem((*path, name), "BASE_TYPE_REQUIRED", "This field is required")
        for name, item in value.items():
            if name in known:
                yield from known[name](item, (*path, name))
            else:
                yield Problem((*path, name), "UNKNOWN_FIELD", "Not documented.", refused=False)

    return check


def by_type(kinds: Mapping[int, Check]) -> Check:
    """An object that is checked by its `type`."""
    known = one_of(*kinds)

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, dict) or "type" not in value:
            yield Problem((*path, "type"), "BASE_TYPE_REQUIRED", "This field is required")
        elif problems := list(known(value["type"], (*path, "type"))):
            yield from problems
        else:
            yield from kinds[value["type"]](value, path)

    return check


def together(*checks: Check) -> Check:
    """Each of some checks; the later ones only if the earlier ones found nothing to refuse."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        for inner in checks:
            problems = list(inner(value, path))
            yield from problems
            if any(problem.refused for problem in problems):
                return

    return check


def anything(_value: Any, _path: Path) -> Iterator[Problem]:
    """What no rule limits."""
    return iter(())


# Embeds.

EMBED_TOTAL = 6000
_URL = or_null(text(0, 2048))
_EMBED = record(
    {},
    {
        "type": or_null(text()),
        "flags": or_null(number(0, 0)),  # discord.py sends it, and Discord ignores it
        "url": _URL,
        "title": or_null(text(0, 256)),
        "description": or_null(text(0, 4096)),
        "color": or_null(number(0, 0xFFFFFF)),
        "timestamp": or_null(text()),
        "author": or_null(record({"name": text(1, 256)}, {"url": _URL, "icon_url": _URL})),
        "footer": or_null(record({"text": text(1, 2048)}, {"icon_url": _URL})),
        "image": or_null(record({"url": text(1, 2048)})),
        "thumbnail": or_null(record({"url": text(1, 2048)})),
        "fields": or_null(
            array(
                record(
                    {"name": text(1, 256), "value": text(1, 1024)}, {"inline": or_null(boolean)}
                ),
                high=25,
            )
        ),
    },
)


def _embed_shows_something(embed: Any, path: Path) -> Iterator[Problem]:
    parts = ("title", "description", "author", "footer", "image", "thumbnail", "fields")
    if not any(embed.get(part) for part in parts):
        yield Problem((*path, "description"), "BASE_TYPE_REQUIRED", "This field is required")


def embed_texts(embed: Mapping[str, Any]) -> Iterator[str]:
    """Yield every text that an embed shows, which all count towards the total."""
    yield (embed.get("author") or {}).get("name") or ""
    yield embed.get("title") or ""
    yield embed.get("description") or ""
    for field in embed.get("fields") or ():
        yield field["name"]
        yield field["value"]
    yield (embed.get("footer") or {}).get("text") or ""


def _embeds_in_all(embeds: Any, path: Path) -> Iterator[Problem]:
    if sum(len(part) for embed in embeds for part in embed_texts(embed)) > EMBED_TOTAL:
        message = f"Embed size exceeds maximum size of {EMBED_TOTAL}"
        yield Problem(path, "MAX_EMBED_SIZE_EXCEEDED", message)


EMBEDS = together(array(together(_EMBED, _embed_shows_something), high=10), _embeds_in_all)


# Components.

CHANNEL_TYPES = (0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15)
"""Types of channels that the stable description of the API has."""

_ID = or_null(number(0, 2**31 - 1))
_CUSTOM_ID = text(1, 100)
_EMOJI = or_null(
    record({"name": text(1, 32)}, {"id": or_null(snowflake), "animated": or_null(boolean)})
)
_BUTTON_FIELDS: dict[str, Check] = {
    "id": _ID,
    "custom_id": or_null(_CUSTOM_ID),
    "label": or_null(text(0, 80)),
    "disabled": or_null(boolean),
    "url": or_null(text(1, 512)),
    "sku_id": or_null(snowflake),
    "emoji": _EMOJI,
}
_LINK, _PREMIUM = 5, 6


def _button_target(button: Any, path: Path) -> Iterator[Problem]:
    needed = {_LINK: "url", _PREMIUM: "sku_id"}.get(button["style"], "custom_id")
    for name in ("url", "sku_id", "custom_id"):
        if name == needed and not button.get(name):
            yield Problem((*path, name), "BASE_TYPE_REQUIRED", "This field is required")
        elif name != needed and button.get(name):
            message = f"A button of style {button['style']} cannot have a {name}."
            yield Problem((*path, name), "BUTTON_COMPONENT_FIELD_EXCLUSIVE", message)
    if needed != "sku_id" and not button.get("label") and not button.get("emoji"):
        message = "A button needs a label or an emoji."
        yield Problem((*path, "label"), "BUTTON_COMPONENT_INVALID_LABEL", message)
    elif needed != "sku_id" and not any(c.isalnum() for c in button.get("label") or ""):
        message = "This project's buttons have words, which a screen reader can read."
        yield Problem((*path, "label"), "BUTTON_WITHOUT_WORDS", message, refused=False)


_BUTTON = together(
    record({"type": one_of(2), "style": number(1, 6)}, _BUTTON_FIELDS), _button_target
)

_SELECT_FIELDS: dict[str, Check] = {
    "id": _ID,
    "placeholder": or_null(text(0, 150)),
    "min_values": or_null(number(0, 25)),
    "max_values": or_null(number(1, 25)),
    "disabled": or_null(boolean),
    "required": or_null(boolean),
}
_SELECT_OPTION = record(
    {"label": text(1, 100), "value": text(1, 100)},
    {"description": or_null(text(0, 100)), "default": or_null(boolean), "emoji": _EMOJI},
)


def _select(kind: int, optional: Mapping[str, Check], required: Mapping[str, Check]) -> Check:
    fields = {"type": one_of(kind), "custom_id": _CUSTOM_ID, **required}
    return together(record(fields, {**_SELECT_FIELDS, **optional}), _select_bounds)


def select_bounds(select: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many values a person may choose at least and at most."""
    low, high = select.get("min_values"), select.get("max_values")
    return 1 if low is None else low, 1 if high is None else high


def _select_bounds(select: Any, path: Path) -> Iterator[Problem]:
    low, high = select_bounds(select)
    options = select.get("options")
    if low > high or (options is not None and low > len(options)):
        message = f"Nobody could choose {low} values."
        yield Problem((*path, "min_values"), "BASE_TYPE_BAD_LENGTH", message)
    chosen = len(select.get("default_values") or ())
    if options is not None:
        chosen = sum(bool(option.get("default")) for option in options)
        values = Counter(option["value"] for option in options)
        for index, option in enumerate(options):
            if values[option["value"]] > 1:
                message = "The specified option value is already used"
                place = (*path, "options", index, "value")
                yield Problem(place, "SELECT_COMPONENT_OPTION_VALUE_DUPLICATED", message)
    if chosen and not low <= chosen <= high:
        message = f"{chosen} values are chosen beforehand, not from {low} to {high}."
        yield Problem((*path, "default_values"), "BASE_TYPE_BAD_LENGTH", message)


def _chosen_beforehand(*kinds: str) -> dict[str, Check]:
    item = record({"id": snowflake, "type": one_of(*kinds)})
    return {"default_values": or_null(array(item, high=25))}


_CHANNEL_SELECT = _select(
    8,
    {
        **_chosen_beforehand("channel"),
        "channel_types": or_null(array(one_of(*CHANNEL_TYPES), unique=True)),
    },
    {},
)
_STRING_SELECT = _select(3, {}, {"options": array(_SELECT_OPTION, 1, 25)})
_SELECTS = {
    3: _STRING_SELECT,
    5: _select(5, _chosen_beforehand("user"), {}),
    6: _select(6, _chosen_beforehand("role"), {}),
    7: _select(7, _chosen_beforehand("user", "role"), {}),
    8: _CHANNEL_SELECT,
}


def _row_holds(row: Any, path: Path) -> Iterator[Problem]:
    if len(row["components"]) > 1 and any(item["type"] in _SELECTS for item in row["components"]):
        message = "A row holds up to five buttons or one select."
        yield Problem((*path, "components"), "COMPONENT_LAYOUT_WIDTH_EXCEEDED", message)


_ROW = together(
    record(
        {"type": one_of(1), "components": array(by_type({2: _BUTTON, **_SELECTS}), 1, 5)},
        {"id": _ID},
    ),
    _row_holds,
)


def _custom_ids(components: Iterable[Any], path: Path) -> Iterator[tuple[Path, str]]:
    for index, component in enumerate(components):
        place = (*path, index)
        if component.get("custom_id"):
            yield (*place, "custom_id"), component["custom_id"]
        yield from _custom_ids(component.get("components", ()), (*place, "components"))
        if "component" in component:
            yield from _custom_ids([component["component"]], (*place, "component"))


def _unique_ids(components: Any, path: Path) -> Iterator[Problem]:
    places = list(_custom_ids(components, path))
    used = Counter(custom_id for _, custom_id in places)
    for place, custom_id in places:
        if used[custom_id] > 1:
            message = "Component custom id cannot be duplicated"
            yield Problem(place, "COMPONENT_CUSTOM_ID_DUPLICATED", message)


COMPONENTS = together(array(by_type({1: _ROW}), high=5), _unique_ids)
"""Rows of a message. The components of version 2, which this project does not send, are refused."""


# Messages.

SUPPRESS_EMBEDS, EPHEMERAL, LOADING, SILENT = 1 << 2, 1 << 6, 1 << 7, 1 << 12
MAX_CONTENT = 2000


def _flags(allowed: int) -> Check:
    def check(value: Any, path: Path) -> Iterator[Problem]:
        yield from number(0, 2**31)(value, path)
        if isinstance(value, int) and value & ~allowed:
            message = f"The flags {value & ~allowed} cannot be set here."
            yield Problem(path, "MESSAGE_FLAGS_NOT_ALLOWED", message, refused=False)

    return or_null(check)


def _mentions_nobody(value: Any, path: Path) -> Iterator[Problem]:
    if value != {"parse": []}:
        message = f'This project sends {{"parse": []}}, not {value!r}.'
        yield Problem(path, "MENTIONS", message, refused=False)


def _sets_mentions(body: Any, path: Path) -> Iterator[Problem]:
    if isinstance(body, dict) and "allowed_mentions" not in body:
        message = "This project sets it on every message."
        yield Problem((*path, "allowed_mentions"), "MENTIONS", message, refused=False)


def _image_is_described(attachment: Any, path: Path) -> Iterator[Problem]:
    image = (attachment.get("filename") or "").endswith((".png", ".jpg", ".gif", ".webp"))
    if image and not attachment.get("description"):
        message = "This project describes its images, for screen readers."
        yield Problem((*path, "description"), "IMAGE_NOT_DESCRIBED", message, refused=False)


_ATTACHMENT = together(
    record(
        {"id": snowflake},
        {"filename": or_null(text(1, 1024)), "description": or_null(text(0, 1024))},
    ),
    _image_is_described,
)
_MESSAGE_FIELDS: dict[str, Check] = {
    "content": or_null(text(0, MAX_CONTENT)),
    "embeds": or_null(EMBEDS),
    "allowed_mentions": _mentions_nobody,
    "components": or_null(COMPONENTS),
    "attachments": or_null(array(_ATTACHMENT, high=10)),
    "tts": or_null(boolean),  # also in edits, where discord.py sends it and Discord ignores it
}


def _message(flags: int, extra: Mapping[str, Check] | None = None) -> Check:
    fields = {**_MESSAGE_FIELDS, "flags": _flags(flags), **(extra or {})}
    return together(_sets_mentions, record({}, fields))


POSTED_MESSAGE = _message(
    SUPPRESS_EMBEDS | SILENT,
    {
        "nonce": or_null(text(0, 25)),
        "enforce_nonce": or_null(boolean),
        "message_reference": or_null(
            record(
                {"message_id": snowflake},
                {
                    "channel_id": or_null(snowflake),
                    "guild_id": or_null(snowflake),
                    "fail_if_not_exists": or_null(boolean),
                    "type": or_null(one_of(0)),
                },
            )
        ),
    },
)
"""A message that is posted in a channel."""
RESPONSE_MESSAGE = _message(SUPPRESS_EMBEDS | SILENT | EPHEMERAL)
"""A message that responds to an interaction, at first or later."""
EDITED_MESSAGE = _message(SUPPRESS_EMBEDS)
"""What an edit changes of a message."""


THREAD = record(
    {"name": text(1, 100), "type": one_of(11)},
    {
        "auto_archive_duration": or_null(one_of(60, 1440, 4320, 10080)),
        "invitable": or_null(boolean),  # discord.py sends it, and Discord ignores it
        "rate_limit_per_user": or_null(number(0, 21600)),
    },
)
"""A public thread without a message that it belongs to."""


def attached(
    body: Mapping[str, Any], files: Collection[int], kept: Collection[str]
) -> Iterator[Problem]:
    """Check that what a body says of its attachments fits them.

    Args:
        body: The message.
        files: The numbers of the files that were sent with it.
        kept: The ids of the attachments that an edited message has.
    """
    listed = [str(item["id"]) for item in body.get("attachments") or ()]
    for index, attachment_id in enumerate(listed):
        if attachment_id not in kept and attachment_id not in map(str, files):
            message = "No file was sent for it, and the message has none."
            yield Problem(("attachments", index, "id"), "ATTACHMENT_NOT_FOUND", message)
    for number_ in files:
        if body.get("attachments") is not None and str(number_) not in listed:
            message = f"files[{number_}] is not listed."
            yield Problem(("attachments",), "ATTACHMENT_NOT_LISTED", message, refused=False)


PRIVATE_CHANNEL = record({"recipient_id": snowflake})
"""A request for the conversation with a person."""

# First responses to interactions.

_TEXT_INPUT_FIELDS: dict[str, Check] = {
    "id": _ID,
    "label": or_null(text(1, 45)),
    "value": or_null(text(0, 4000)),
    "placeholder": or_null(text(0, 100)),
    "required": or_null(boolean),
    "min_length": or_null(number(0, 4000)),
    "max_length": or_null(number(1, 4000)),
}


def _value_fits(field: Any, path: Path) -> Iterator[Problem]:
    low, high = field.get("min_length") or 0, field.get("max_length") or 4000
    value = field.get("value")
    if low > high:
        yield Problem((*path, "min_length"), "BASE_TYPE_BAD_LENGTH", f"More than {high}.")
    if value and not low <= len(value) <= high:
        message = f"Must be between {low} and {high} in length."
        yield Problem((*path, "value"), "BASE_TYPE_BAD_LENGTH", message)


_TEXT_INPUT = together(
    record({"type": one_of(4), "custom_id": _CUSTOM_ID, "style": one_of(1, 2)}, _TEXT_INPUT_FIELDS),
    _value_fits,
)


def _labelled(field: Any, path: Path) -> Iterator[Problem]:
    for index, item in enumerate(field["components"]):
        if not item.get("label"):
            place = (*path, "components", index, "label")
            yield Problem(place, "BASE_TYPE_REQUIRED", "This field is required")


_LABEL = record(
    {"type": one_of(18), "label": text(1, 45), "component": by_type({4: _TEXT_INPUT, **_SELECTS})},
    {"id": _ID, "description": or_null(text(1, 100))},
)
_TEXT_ROW = together(
    record({"type": one_of(1), "components": array(by_type({4: _TEXT_INPUT}), 1, 1)}, {"id": _ID}),
    _labelled,
)
MODAL = record(
    {
        "custom_id": _CUSTOM_ID,
        "title": text(1, 45),
        "components": together(array(by_type({1: _TEXT_ROW, 18: _LABEL}), 1, 5), _unique_ids),
    }
)
"""A form."""

_CHOICE_VALUES = {
    3: text(1, 100),
    4: number(-(2**53) + 1, 2**53 - 1),
    10: number(-(2**53), 2**53, whole=False),
}
# https://discord.com/developers/docs/reference#locales
_LOCALES = (
    "bg cs da de el en-GB en-US es-419 es-ES fi fr hi hr hu id it ja ko lt nl no pl pt-BR ro ru "
    "sv-SE th tr uk vi zh-CN zh-TW"
)
LOCALES = frozenset(_LOCALES.split())


def localized(inner: Check) -> Check:
    """`null`, or translations of a text by locale."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        if value is None:
            return
        if not isinstance(value, dict):
            yield Problem(path, "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
            return
        for locale, item in value.items():
            if locale not in LOCALES:
                yield Problem((*path, locale), "BASE_TYPE_CHOICES", "Value is no locale.")
            yield from inner(item, (*path, locale))

    return check


_LOCALIZED_TEXT = localized(text(1, 100))


def choices(option_type: int) -> Check:
    """The choices of an option, or the suggestions for it."""
    choice = record(
        {"name": text(1, 100), "value": _CHOICE_VALUES[option_type]},
        {"name_localizations": _LOCALIZED_TEXT},
    )
    return array(choice, high=25)


_COMMAND, _COMPONENT, _AUTOCOMPLETE, _SUBMISSION = 2, 3, 4, 5
_CALLBACK_TYPES = {
    _COMMAND: (4, 5, 9),
    _COMPONENT: (4, 5, 6, 7, 9),
    _AUTOCOMPLETE: (8,),
    _SUBMISSION: (4, 5, 6, 7),
}


def callback(
    body: Any, *, interaction_type: int, option_type: int = 3, on_message: bool = True
) -> Iterator[Problem]:
    """Check the first response to an interaction.

    Args:
        body: The response.
        interaction_type: The type of the interaction.
        option_type: Of an autocomplete interaction, the type of the option that is typed.
        on_message: Whether there is a message to update: a form that a command has opened has none.
    """
    allowed = _CALLBACK_TYPES[interaction_type]
    if not on_message:
        allowed = tuple(kind for kind in allowed if kind not in {6, 7})
    only_flags = record({}, {"flags": _flags(EPHEMERAL), "tts": or_null(boolean)})
    data: dict[int, Check] = {
        4: RESPONSE_MESSAGE,
        5: or_null(only_flags),
        6: or_null(record({})),
        7: EDITED_MESSAGE,
        8: record({"choices": choices(option_type)}),
        9: MODAL,
    }
    kinds = {}
    for kind in allowed:
        needed = {"type": one_of(kind)} | ({"data": data[kind]} if kind not in {5, 6} else {})
        kinds[kind] = record(needed, {"data": data[kind]})
    yield from by_type(kinds)(body, ())


# Commands.

MAX_COMMANDS = {1: 100, 2: 15, 3: 15, 4: 1}
"""Largest number of global commands of each type."""
MAX_COMMAND_TEXT = 8000
CONTEXTS, INSTALLS = (0, 1, 2), (0, 1)

_SUBCOMMAND, _GROUP = 1, 2


def _command_name(value: Any, path: Path) -> Iterator[Problem]:
    """What a person types after the slash."""
    problems = list(text(1, 32)(value, path))
    yield from problems
    if problems:
        return
    for character in value:
        letter = unicodedata.category(character)[0] in "LN"
        script = unicodedata.name(character, "").startswith(("DEVANAGARI", "THAI"))
        if not (letter or script or character in "-_'"):
            message = "Command name is invalid"
            yield Problem(path, "APPLICATION_COMMAND_INVALID_NAME", message)
            return
    if value != value.lower():
        yield Problem(path, "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")


def _option(kind: int, optional: Mapping[str, Check]) -> Check:
    common = {
        "name_localizations": localized(_command_name),
        "description_localizations": _LOCALIZED_TEXT,
    }
    if kind not in {_SUBCOMMAND, _GROUP}:
        common["required"] = or_null(boolean)
    return record(
        {"type": one_of(kind), "name": _command_name, "description": text(1, 100)},
        {**common, **optional},
    )


def _numeric(kind: int) -> Check:
    bound = or_null(number(-(2**53) + 1, 2**53 - 1, whole=kind == 4))
    return _option(
        kind,
        {
            "choices": or_null(choices(kind)),
            "autocomplete": or_null(boolean),
            "min_value": bound,
            "max_value": bound,
        },
    )


def _option_is_consistent(option: Any, path: Path) -> Iterator[Problem]:
    if option.get("choices") and option.get("autocomplete"):
        message = "An option cannot have both choices and autocomplete."
        yield Problem((*path, "autocomplete"), "APPLICATION_COMMAND_OPTIONS_EXCLUSIVE", message)
    for name in ("length", "value"):
        low, high = option.get(f"min_{name}"), option.get(f"max_{name}")
        if low is not None and high is not None and low > high:
            yield Problem((*path, f"min_{name}"), "NUMBER_TYPE_MAX", f"More than {high}.")
    for key in ("name", "value"):
        used = Counter(json.dumps(choice[key]) for choice in option.get("choices") or ())
        if any(count > 1 for count in used.values()):
            message = f"Two choices have one {key}."
            yield Problem(
                (*path, "choices"), "APPLICATION_COMMAND_OPTIONS_CHOICE_DUPLICATE", message
            )


def _options_are_ordered(options: Any, path: Path) -> Iterator[Problem]:
    required = [bool(option.get("required")) for option in options]
    if any(after and not before for before, after in pairwise(required)):
        message = "Required options must be placed before non-required options"
        yield Problem(path, "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", message)
    if _shares_name(options):
        message = "Option names must be unique"
        yield Problem(path, "APPLICATION_COMMAND_OPTIONS_NAME_INVALID", message)


def _shares_name(named: Iterable[Any]) -> bool:
    """Return whether two commands or options have one name in some locale."""
    for locale in LOCALES:
        names = [(item.get("name_localizations") or {}).get(locale, item["name"]) for item in named]
        if len(set(names)) < len(names):
            return True
    return False


def _options(kinds: Mapping[int, Check]) -> Check:
    return or_null(
        together(
            array(together(by_type(kinds), _option_is_consistent), high=25), _options_are_ordered
        )
    )


_VALUES: dict[int, Check] = {
    3: _option(
        3,
        {
            "choices": or_null(choices(3)),
            "autocomplete": or_null(boolean),
            "min_length": or_null(number(0, 6000)),
            "max_length": or_null(number(1, 6000)),
        },
    ),
    4: _numeric(4),
    10: _numeric(10),
    7: _option(7, {"channel_types": or_null(array(one_of(*CHANNEL_TYPES), unique=True))}),
    **{kind: _option(kind, {}) for kind in (5, 6, 8, 9, 11)},
}
_NESTED = {_SUBCOMMAND: _option(_SUBCOMMAND, {"options": _options(_VALUES)})}
_GROUPS = {**_NESTED, _GROUP: _option(_GROUP, {"options": _options(_NESTED)})}


def _command_options(value: Any, path: Path) -> Iterator[Problem]:
    nested = value and any(
        isinstance(option, dict) and option.get("type") in _GROUPS for option in value
    )
    yield from _options(_GROUPS if nested else _VALUES)(value, path)


def _permissions(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    yield from number(0, 2**54 - 1)(value, path)


_COMMAND_FIELDS: dict[str, Check] = {
    "id": or_null(snowflake),
    "default_member_permissions": or_null(_permissions),
    "dm_permission": or_null(boolean),
    "nsfw": or_null(boolean),
    "contexts": or_null(array(one_of(*CONTEXTS), 1, unique=True)),
    "integration_types": or_null(array(one_of(*INSTALLS), 1, unique=True)),
}
_SLASH = record(
    {"name": _command_name, "description": text(1, 100)},
    {
        **_COMMAND_FIELDS,
        "type": one_of(1),
        "options": _command_options,
        "name_localizations": localized(_command_name),
        "description_localizations": _LOCALIZED_TEXT,
    },
)
_COMMANDS_BY_TYPE = {
    1: _SLASH,
    **{
        kind: record(
            {"name": text(1, 32), "type": one_of(kind)},
            {
                **_COMMAND_FIELDS,
                "description": or_null(text(0, 0)),
                "name_localizations": localized(text(1, 32)),
                "description_localizations": localized(text(0, 0)),
            },
        )
        for kind in (2, 3)
    },
    4: record(
        {"name": text(1, 32), "type": one_of(4)},
        {
            **_COMMAND_FIELDS,
            "description": or_null(text(0, 100)),
            "handler": or_null(one_of(1, 2)),
            "name_localizations": localized(text(1, 32)),
            "description_localizations": _LOCALIZED_TEXT,
        },
    ),
}


def _command_text(value: Any) -> int:
    """Return the characters of the names, descriptions and choices of a command.

    Of each text, the longest translation counts.
    """
    own = _longest(value, "name") + _longest(value, "description")
    own += sum(
        _longest(choice, "name") + len(str(choice["value"]))
        for choice in value.get("choices") or ()
    )
    return own + sum(_command_text(option) for option in value.get("options") or ())


def _longest(value: Any, key: str) -> int:
    translations = (value.get(f"{key}_localizations") or {}).values()
    return max(map(len, (value.get(key) or "", *translations)))


def _command(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, dict):
        value = {"type": 1, **value}
    problems = list(by_type(_COMMANDS_BY_TYPE)(value, path))
    yield from problems
    if not problems and _command_text(value) > MAX_COMMAND_TEXT:
        message = f"Command exceeds maximum size ({MAX_COMMAND_TEXT})"
        yield Problem(path, "APPLICATION_COMMAND_TOO_LARGE", message)


def commands(body: Any) -> Iterator[Problem]:
    """Check the commands of an app, all of which one request sets."""
    problems = list(array(_command)(body, ()))
    yield from problems
    if problems:
        return
    kinds = Counter(command.get("type", 1) for command in body)
    for kind, count in kinds.items():
        if count > MAX_COMMANDS[kind]:
            message = f"Maximum number of application commands reached ({MAX_COMMANDS[kind]})"
            yield Problem((), "APPLICATION_COMMAND_TOO_MANY", message)
    for index, command in enumerate(body):
        kind = command.get("type", 1)
        others = [other for other in body if other is not command and other.get("type", 1) == kind]
        if any(_shares_name([command, other]) for other in others):
            message = "Application command names must be unique"
            yield Problem((index,), "APPLICATION_COMMANDS_DUPLICATE_NAME", message)
