"""Buttons that outlive the process: what one does is written in its id."""

from typing import TYPE_CHECKING, Any, Self

import discord

from .responses import explain

if TYPE_CHECKING:
    from ..client import Bard


class Button(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"(?!)"):
    """A button whose every press is answered, as every command is.

    A subclass has a template for its ids, and says in `press` what the button does.
    """

    def __init__(
        self,
        label: str,
        custom_id: str,
        style: discord.ButtonStyle = discord.ButtonStyle.secondary,
        *,
        disabled: bool = False,
    ) -> None:
        super().__init__(
            discord.ui.Button(label=label, custom_id=custom_id, style=style, disabled=disabled)
        )

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], item: discord.ui.Item[Any], *_: object
    ) -> Self:
        """Return the button that was pressed."""
        assert isinstance(item, discord.ui.Button)  # noqa: S101 - found by its id
        return cls(item.label or "", item.custom_id or "", item.style)

    def __getitem__(self, name: str) -> str:
        """Return a part of the id, by its name in the template."""
        match = self.template.fullmatch(self.custom_id)
        assert match is not None  # noqa: S101 - checked when it was made
        return match[name]

    async def callback(  # type: ignore[override]  # only this bot has them
        self, interaction: discord.Interaction["Bard"]
    ) -> None:
        """Press it, unless the bot is about to leave; tell the user of any failure."""
        if not await interaction.client.tree.interaction_check(interaction):
            return
        try:
            await self.press(interaction)
        except Exception as error:  # noqa: BLE001 - the library would log it and answer nothing
            await explain(interaction, error)

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Do what the button is for; may fail as a command may."""
        raise NotImplementedError  # each kind of button has its own


def may_decide(interaction: discord.Interaction["Bard"], asker_id: int) -> bool:
    """Return whether a person asked for what a button stands under, or moderates."""
    return interaction.user.id == asker_id or moderates(interaction)


def moderates(interaction: discord.Interaction["Bard"]) -> bool:
    """Return whether a person may decide for others here; alone with the bard, they may."""
    return interaction.permissions.manage_messages or interaction.context.dm_channel


def view_of(*buttons: Button) -> discord.ui.View:
    """Return buttons as a view that never ends."""
    view = discord.ui.View(timeout=None)
    for button in buttons:
        view.add_item(button)
    return view
