"""Buttons that work after a restart, and the permissions that they check."""

from collections.abc import Iterator
from typing import Any, Self

import discord

from ..bard import Bard
from .interactions import handle


class Button(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"(?!)"):
    """A button that responds to every press, and that the client recognises after a restart.

    A subclass has a template for its custom ids, and implements `press`.
    """

    def __init__(
        self,
        label: str,
        custom_id: str,
        style: discord.ButtonStyle = discord.ButtonStyle.secondary,
        *,
        disabled: bool = False,
        row: int | None = None,
    ) -> None:
        super().__init__(
            discord.ui.Button(label=label, custom_id=custom_id, style=style, disabled=disabled),
            row=row,
        )

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], item: discord.ui.Item[Any], *_: object
    ) -> Self:
        """Return the button that was pressed."""
        assert isinstance(item, discord.ui.Button)  # noqa: S101 - found by its id
        return cls(item.label or "", item.custom_id or "", item.style)

    def __getitem__(self, name: str) -> str:
        """Return a named group of the template, matched against the custom id."""
        match = self.template.fullmatch(self.custom_id)
        assert match is not None  # noqa: S101 - checked when it was made
        return match[name]

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Call `press`, and respond to every error that it raises."""
        await handle(interaction, lambda bard: self.press(interaction, bard))

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Carry out what the button is for; may raise as a command may."""
        raise NotImplementedError  # abstract: each kind of button has its own


def may_change(interaction: discord.Interaction[Any], requester_id: int) -> bool:
    """Return whether a person requested a turn or moderates the channel."""
    return interaction.user.id == requester_id or moderates(interaction)


def moderates(interaction: discord.Interaction[Any]) -> bool:
    """Return whether a person may manage messages here; in a direct message, they may."""
    return interaction.permissions.manage_messages or interaction.context.dm_channel


def custom_ids_of(message: discord.Message) -> Iterator[str]:
    """Yield the custom ids of the controls below a message."""
    for row in message.components:
        if isinstance(row, discord.ActionRow):
            yield from (item.custom_id or "" for item in row.children)


def view_of(*buttons: Button) -> discord.ui.View:
    """Return a view of buttons that never times out."""
    view = discord.ui.View(timeout=None)
    for button in buttons:
        view.add_item(button)
    # The client finds the buttons by their ids. The library would keep the view of an ephemeral
    # message for 15 minutes, in a task that outlives the extension.
    view.stop()
    return view
