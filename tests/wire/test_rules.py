"""The rules: what Discord documents as a limit is allowed, and one more is not."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.wire import rules
from tests.wire.app import NOBODY, button, message
from tests.wire.rules import Check, Problem


def places(problems: Iterator[Problem]) -> list[str]:
    """Return the fields that break a rule."""
    return sorted({".".join(map(str, problem.path)) for problem in problems})


def row(*items: dict[str, Any]) -> dict[str, Any]:
    return {"type": 1, "components": list(items)}


def select(**more: Any) -> dict[str, Any]:
    options = [{"label": "A", "value": "a"}, {"label": "B", "value": "b"}]
    return row({"type": 3, "custom_id": "s", "options": options, **more})


def options(count: int) -> list[dict[str, str]]:
    return [
        {"label": "L" * 100, "value": f"{number}", "description": "D" * 100}
        for number in range(count)
    ]


FIELD = {"name": "N" * 256, "value": "V" * 1024}
GOOD_MESSAGES = [
    message(),
    message("x" * 2000),
    {**NOBODY, "content": None, "embeds": None, "components": None, "attachments": None},
    message(embeds=[{"description": "x" * 4096}, {"description": "x" * 1904}]),
    message(embeds=[{"title": "x"}] * 10),
    message(embeds=[{"title": "T" * 256, "author": {"name": "A" * 256}, "color": 0xFFFFFF}]),
    message(embeds=[{"footer": {"text": "F" * 2048}}]),
    message(embeds=[{"fields": [{"name": "N", "value": "V", "inline": True}] * 25}]),
    message(embeds=[{"fields": [FIELD] * 4}]),
    message(components=[button("x" * 100, label="L" * 80)]),
    message(components=[button(str(number)) for number in range(5)]),
    message(components=[row(*(button(str(number))["components"][0] for number in range(5)))]),
    message(components=[row({"type": 2, "style": 5, "label": "Go", "url": "https://example.org"})]),
    message(
        components=[
            row({"type": 2, "style": 1, "custom_id": "c", "emoji": {"name": "x"}, "label": "Go"})
        ]
    ),
    message(components=[select(options=options(25), max_values=25, min_values=0)]),
    message(components=[select(placeholder="P" * 150)]),
    message(components=[row({"type": 8, "custom_id": "s", "channel_types": [0, 5, 15]})]),
    message(attachments=[{"id": "0", "description": "D" * 1024}] * 10),
]


@pytest.mark.parametrize("body", GOOD_MESSAGES)
def test_message_within_the_limits(body: dict[str, Any]) -> None:
    for check in (rules.POSTED_MESSAGE, rules.RESPONSE_MESSAGE, rules.EDITED_MESSAGE):
        assert list(check(body, ())) == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (message("x" * 2001), "content"),
        (message(content=5), "content"),
        (message("\ud800"), "content"),
        (message(embeds=[{"description": "x" * 4097}]), "embeds.0.description"),
        (message(embeds=[{"title": "x" * 257}]), "embeds.0.title"),
        (message(embeds=[{"author": {"name": "x" * 257}}]), "embeds.0.author.name"),
        (message(embeds=[{"footer": {"text": "x" * 2049}}]), "embeds.0.footer.text"),
        (message(embeds=[{"fields": [FIELD] * 26}]), "embeds.0.fields"),
        (message(embeds=[{"fields": [{"name": "N"}]}]), "embeds.0.fields.0.value"),
        (message(embeds=[{"fields": [{"name": "N", "value": None}]}]), "embeds.0.fields.0.value"),
        (message(embeds=[{"fields": [{"name": " ", "value": "V"}]}]), "embeds.0.fields.0.name"),
        (message(embeds=[{"fields": [{**FIELD, "name": "x" * 257}]}]), "embeds.0.fields.0.name"),
        (message(embeds=[{"fields": [{**FIELD, "value": "x" * 1025}]}]), "embeds.0.fields.0.value"),
        (message(embeds=[{}]), "embeds.0.description"),
        (message(embeds=[{"title": "x"}] * 11), "embeds"),
        (message(embeds=[{"description": "x" * 4096}, {"description": "x" * 1905}]), "embeds"),
        (message(embeds=[{"title": "x", "color": 0x1000000}]), "embeds.0.color"),
        (message(components=[button("x" * 101, label="L")]), "components.0.components.0.custom_id"),
        (message(components=[button("", label="L")]), "components.0.components.0.custom_id"),
        (message(components=[button("x", label="L" * 81)]), "components.0.components.0.label"),
        (message(components=[button("x", label=None)]), "components.0.components.0.label"),
        (
            message(components=[button("x", label=None, emoji={"name": "x"})]),
            "components.0.components.0.label",
        ),
        (message(components=[button("x", label="▶")]), "components.0.components.0.label"),
        (message(attachments=[{"id": "0", "filename": "a.png"}]), "attachments.0.description"),
        (message(components=[button("x", style=7)]), "components.0.components.0.style"),
        (message(components=[button("x", url="https://x")]), "components.0.components.0.url"),
        (message(components=[button("x", disabled="no")]), "components.0.components.0.disabled"),
        (message(components=[button(str(number)) for number in range(6)]), "components"),
        (message(components=[row()]), "components.0.components"),
        (message(components=[row(*[button("x")["components"][0]] * 6)]), "components.0.components"),
        (
            message(components=[row(button("b")["components"][0], select()["components"][0])]),
            "components.0.components",
        ),
        (message(components=[{"type": 10, "content": "x"}]), "components.0.type"),
        (message(components=[select(options=options(26))]), "components.0.components.0.options"),
        (message(components=[select(options=[])]), "components.0.components.0.options"),
        (message(components=[select(min_values=3)]), "components.0.components.0.min_values"),
        (message(components=[select(max_values=26)]), "components.0.components.0.max_values"),
        (
            message(components=[row({"type": 8, "custom_id": "s", "channel_types": [0, 16]})]),
            "components.0.components.0.channel_types.1",
        ),
        (message(attachments=[{"id": "0"}] * 11), "attachments"),
        (message(attachments=[{"description": "x"}]), "attachments.0.id"),
        (
            message(attachments=[{"id": "0", "description": "x" * 1025}]),
            "attachments.0.description",
        ),
        (message(flags=None, tts="yes"), "tts"),
        ({"content": "x"}, "allowed_mentions"),
        ({"content": "x", "allowed_mentions": None}, "allowed_mentions"),
        ({"content": "x", "allowed_mentions": {"parse": ["users"]}}, "allowed_mentions"),
        ({"content": "x", "allowed_mentions": {"parse": [], "users": []}}, "allowed_mentions"),
        (message(flags=1 << 15), "flags"),
        (message(colour="red"), "colour"),
        (message(embeds=[{"title": "x", "titel": "y"}]), "embeds.0.titel"),
    ],
)
def test_message_beyond_a_limit(body: dict[str, Any], place: str) -> None:
    for check in (rules.POSTED_MESSAGE, rules.RESPONSE_MESSAGE, rules.EDITED_MESSAGE):
        assert places(check(body, ())) == [place]


def test_ids_and_values_are_unique() -> None:
    twice = message(components=[button("same"), button("same")])
    assert places(rules.POSTED_MESSAGE(twice, ())) == [
        "components.0.components.0.custom_id",
        "components.1.components.0.custom_id",
    ]
    same = [{"label": "A", "value": "a"}, {"label": "B", "value": "a"}]
    assert places(rules.POSTED_MESSAGE(message(components=[select(options=same)]), ())) == [
        "components.0.components.0.options.0.value",
        "components.0.components.0.options.1.value",
    ]


def test_only_responses_are_ephemeral() -> None:
    body = message(flags=64)
    assert not places(rules.RESPONSE_MESSAGE(body, ()))
    assert places(rules.POSTED_MESSAGE(body, ())) == ["flags"]
    assert places(rules.EDITED_MESSAGE(body, ())) == ["flags"]


def text_input(**more: Any) -> dict[str, Any]:
    field = {"type": 4, "custom_id": "f", "style": 1, "label": None, **more}
    return {"type": 18, "label": "Field", "component": field}


def form(**more: Any) -> dict[str, Any]:
    return {"custom_id": "m", "title": "Form", "components": [text_input()], **more}


@pytest.mark.parametrize(
    "body",
    [
        form(),
        form(title="T" * 45, custom_id="x" * 100),
        form(components=[text_input(custom_id=str(number)) for number in range(5)]),
        form(components=[text_input(value="v" * 4000, max_length=4000, placeholder="p" * 100)]),
        form(components=[row({"type": 4, "custom_id": "f", "style": 2, "label": "L" * 45})]),
    ],
)
def test_form_within_the_limits(body: dict[str, Any]) -> None:
    assert list(rules.MODAL(body, ())) == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (form(title="T" * 46), "title"),
        (form(custom_id=None), "custom_id"),
        (form(components=[]), "components"),
        (form(components=[text_input(custom_id=str(number)) for number in range(6)]), "components"),
        (form(components=[button("x")]), "components.0.components.0.type"),
        (form(components=[{**text_input(), "label": "L" * 46}]), "components.0.label"),
        (form(components=[{**text_input(), "description": "D" * 101}]), "components.0.description"),
        (form(components=[text_input(value="v" * 4001)]), "components.0.component.value"),
        (form(components=[text_input(value="long", max_length=3)]), "components.0.component.value"),
        (form(components=[text_input(max_length=4001)]), "components.0.component.max_length"),
        (form(components=[text_input(style=3)]), "components.0.component.style"),
        (
            form(components=[row({"type": 4, "custom_id": "f", "style": 1})]),
            "components.0.components.0.label",
        ),
    ],
)
def test_form_beyond_a_limit(body: dict[str, Any], place: str) -> None:
    assert places(rules.MODAL(body, ())) == [place]


@pytest.mark.parametrize(
    ("choices", "place"),
    [
        ([{"name": "n" * 100, "value": "v" * 100}] * 25, None),
        ([{"name": "n", "value": "v"}] * 26, "data.choices"),
        ([{"name": "n" * 101, "value": "v"}], "data.choices.0.name"),
        ([{"name": "n", "value": "v" * 101}], "data.choices.0.value"),
        ([{"name": "", "value": "v"}], "data.choices.0.name"),
        ([{"name": "n", "value": 5}], "data.choices.0.value"),
    ],
)
def test_suggestions(choices: list[dict[str, Any]], place: str | None) -> None:
    problems = rules.callback({"type": 8, "data": {"choices": choices}}, interaction_type=4)
    assert places(problems) == ([] if place is None else [place])


@pytest.mark.parametrize(
    ("interaction", "kind", "data", "place"),
    [
        (2, 4, message(), None),
        (2, 5, None, None),
        (2, 5, {"flags": 64}, None),
        (2, 5, {"content": "x"}, "data.content"),
        (2, 6, None, "type"),
        (2, 7, message(), "type"),
        (2, 8, {"choices": []}, "type"),
        (2, 9, form(), None),
        (2, 4, None, "data"),
        (3, 6, None, None),
        (3, 7, message(), None),
        (4, 4, message(), "type"),
        (5, 9, form(), "type"),
        (5, 7, message(), None),
        (2, 99, None, "type"),
    ],
)
def test_type_of_a_first_response(
    interaction: int, kind: int, data: dict[str, Any] | None, place: str | None
) -> None:
    body = {"type": kind} | ({} if data is None else {"data": data})
    problems = rules.callback(body, interaction_type=interaction)
    assert places(problems) == ([] if place is None else [place])


def test_form_of_a_command_has_no_message_to_update() -> None:
    body = {"type": 7, "data": message()}
    assert places(rules.callback(body, interaction_type=5, on_message=False)) == ["type"]


def option(kind: int = 3, name: str = "o", **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "description": "D", **more}


def command(**more: Any) -> dict[str, Any]:
    return {"name": "say", "description": "D", **more}


LONG = [
    option(
        name=f"o{number}", choices=[{"name": f"{n}" * 100, "value": f"{n}" * 50} for n in range(9)]
    )
    for number in range(7)
]


@pytest.mark.parametrize(
    "body",
    [
        command(name="n" * 32, description="D" * 100),
        command(name="été-'_2"),
        command(name="\N{THAI CHARACTER KO KAI}\N{THAI CHARACTER SARA I}"),
        command(options=[option(name=f"o{number}") for number in range(25)]),
        command(options=[option(1, options=[option()])]),
        command(options=[option(2, options=[option(1, options=[option()])])]),
        command(options=[option(choices=[{"name": f"{n}", "value": f"{n}"} for n in range(25)])]),
        command(options=[option(required=True), option(name="p")]),
        command(
            options=[option(4, min_value=0, max_value=2**53 - 1), option(10, "n", min_value=0.1)]
        ),
        command(options=[option(min_length=0, max_length=6000, autocomplete=True)]),
        command(contexts=[0, 1, 2], integration_types=[0, 1], default_member_permissions="0"),
        command(
            name_localizations={"de": "größe", "pt-BR": "opção"},
            description_localizations={"es-419": "D" * 100},
        ),
        {"name": "Quote this", "type": 3, "name_localizations": {"fr": "Citer ceci"}},
        {"name": "launch", "type": 4, "handler": 2},
    ],
)
def test_command_within_the_limits(body: dict[str, Any]) -> None:
    assert list(rules.commands([body])) == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (command(name="n" * 33), "0.name"),
        (command(name="Say"), "0.name"),
        (command(name="say it"), "0.name"),
        (command(name="say!"), "0.name"),
        (command(description="D" * 101), "0.description"),
        (command(description=""), "0.description"),
        ({"name": "say"}, "0.description"),
        ({"name": "Quote", "type": 3, "description": "D"}, "0.description"),
        ({"name": "Quote", "type": 3, "options": []}, "0.options"),
        (command(options=[option(name=f"o{number}") for number in range(26)]), "0.options"),
        (command(options=[option(), option()]), "0.options"),
        (command(options=[option(), option(name="p", required=True)]), "0.options"),
        (command(options=[option(name="O")]), "0.options.0.name"),
        (command(options=[option(12)]), "0.options.0.type"),
        (command(options=[option(1), option(name="p")]), "0.options.1.type"),
        (command(options=[option(1, options=[option(1)])]), "0.options.0.options.0.type"),
        (command(options=[option(1, required=True)]), "0.options.0.required"),
        (command(options=[option(max_length=6001)]), "0.options.0.max_length"),
        (command(options=[option(min_length=2, max_length=1)]), "0.options.0.min_length"),
        (command(options=[option(4, min_value=0.5)]), "0.options.0.min_value"),
        (command(options=[option(min_value=1)]), "0.options.0.min_value"),
        (command(options=[option(7, channel_types=[16])]), "0.options.0.channel_types.0"),
        (
            command(options=[option(choices=[{"name": "n", "value": "v"}], autocomplete=True)]),
            "0.options.0.autocomplete",
        ),
        (
            command(options=[option(choices=[{"name": "n", "value": "v"}] * 2)]),
            "0.options.0.choices",
        ),
        (
            command(options=[option(choices=[{"name": "n", "value": "v" * 101}])]),
            "0.options.0.choices.0.value",
        ),
        (command(contexts=[]), "0.contexts"),
        (command(contexts=[0, 0]), "0.contexts"),
        (command(contexts=[3]), "0.contexts.0"),
        (command(integration_types=[2]), "0.integration_types.0"),
        (command(name_localizations={"de": "Sagen"}), "0.name_localizations.de"),
        (command(name_localizations={"de": "n" * 33}), "0.name_localizations.de"),
        (command(name_localizations={"tlh": "jatlh"}), "0.name_localizations.tlh"),
        (command(name_localizations=[]), "0.name_localizations"),
        (command(description_localizations={"de": "D" * 101}), "0.description_localizations.de"),
        (
            command(options=[option(), option(name="p", name_localizations={"fr": "o"})]),
            "0.options",
        ),
        (command(type=5), "0.type"),
        (command(options=LONG), "0"),
    ],
)
def test_command_beyond_a_limit(body: dict[str, Any], place: str) -> None:
    assert places(rules.commands([body])) == [place]


def test_number_of_commands() -> None:
    commands = [command(name=f"c{number}") for number in range(101)]
    assert places(rules.commands(commands[:100])) == []
    assert places(rules.commands(commands)) == [""]
    assert places(rules.commands([command(), command()])) == ["0", "1"]
    assert places(rules.commands([command(), {"name": "say", "type": 3}])) == []
    french = {"name_localizations": {"fr": "dire"}}
    twice = [command(name="a", **french), command(name="b", **french)]
    assert places(rules.commands(twice)) == ["0", "1"]


def test_refusal_names_the_fields() -> None:
    (problem,) = rules.POSTED_MESSAGE(message(embeds=[{"title": "x" * 257}]), ())
    error = rules.form_error([problem])
    assert error["code"] == 50035
    (found,) = error["errors"]["embeds"]["0"]["title"]["_errors"]
    assert found["code"] == "BASE_TYPE_MAX_LENGTH"


@pytest.mark.parametrize("check", [rules.POSTED_MESSAGE, rules.MODAL])
@pytest.mark.parametrize("body", [None, [], 5, "x", [None], {"embeds": 5}, {"type": []}])
def test_any_json_is_checked(check: Check, body: Any) -> None:
    assert list(check(body, ()))
    assert list(rules.commands([body]))
    assert list(rules.callback(body, interaction_type=3))
