"""The commands of `/scene` about the parts that people play."""

import logging
from typing import Any

import discord
from discord import app_commands

from ..bard import Bard
from ..errors import Reason, RejectedError
from ..languages import Plural, Text
from ..ui.access import require_channel, require_person
from ..ui.components import moderates
from ..ui.interactions import (
    Acknowledgement,
    acknowledge,
    bard_of,
    edit_response,
    look_first,
    place_of,
)
from ..ui.localisation import language_of
from ..ui.names import names_of, plain

log = logging.getLogger(__name__)

JOINED = Text(
    "{person} plays {part} from now on. When the scene comes to {part}, I stop and wait for that "
    "line. What {person} says with `/bard` is {part}'s, too."
)
LEFT = Text("{person} plays {part} no longer. I shall speak for {part} again.")
DISMISSED = Text("{person} frees the part of {part}. I shall speak for {part} again.")
NO_PARTS = Text("Nobody plays a part here: I speak for all. Take one with `/scene join`.")
PARTS = Text("**Who plays here**")
PARTS_LINE = "{part}: {holder}"
_CHOICES = 25
_HOLDERS_SHOWN = 20
OTHERS = Plural("… and {count:,} more", "… and {count:,} more")


async def join(interaction: discord.Interaction[Any], bard: Bard, name: str) -> None:
    """Give the sender a part, with a response that all see."""
    require_person(interaction, bard)
    require_channel(interaction, bard)
    parts = bard.scenes.parts
    await look_first(parts.require_free(place_of(interaction), interaction.user.id, name))
    acknowledgement = await acknowledge(interaction)
    place = place_of(interaction, private=acknowledgement.private)
    part = await parts.join(place, interaction.user.id, name)
    await _announce(interaction, acknowledgement, JOINED, part.name)


async def leave(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """End the sender's part, with a response that all see."""
    parts, user_id = bard.scenes.parts, interaction.user.id
    place = place_of(interaction)  # also where Discord shows the response to the sender alone
    await look_first(parts.of(place, user_id))
    acknowledgement = await acknowledge(interaction)
    part = await parts.of(place, user_id)
    await parts.give_up(place, part)
    await _announce(interaction, acknowledgement, LEFT, part.name)


async def dismiss(interaction: discord.Interaction[Any], bard: Bard, name: str) -> None:
    """End anybody's part for a moderator, with a response that all see."""
    if not moderates(interaction):
        raise RejectedError(Reason.NOT_PART_MODERATOR)
    parts = bard.scenes.parts
    place = place_of(interaction)  # as for `leave`
    await look_first(parts.named(place, name))
    acknowledgement = await acknowledge(interaction)
    part = await parts.named(place, name)
    await parts.give_up(place, part)
    await _announce(interaction, acknowledgement, DISMISSED, part.name)


async def show(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Show the sender who plays which part."""
    await acknowledge(interaction, private=True)
    held = await bard.scenes.parts.held(place_of(interaction))
    language = language_of(interaction)
    if not held:
        await edit_response(interaction, content=language(NO_PARTS))
        return
    shown = held[:_HOLDERS_SHOWN]
    names = await names_of(interaction, (part.user_id for part in shown), language)
    lines = [PARTS_LINE.format(part=part.name, holder=plain(names[part.user_id])) for part in shown]
    if others := len(held) - len(shown):
        lines.append(language.plural(OTHERS, others))
    await edit_response(interaction, content="\n".join([language(PARTS), *lines]))


async def suggest_free(
    interaction: discord.Interaction[Any], typed: str
) -> list[app_commands.Choice[str]]:
    """Suggest the speakers of the current scene, then those of the plays."""
    return await _suggest(interaction, typed, held=False)


async def suggest_held(
    interaction: discord.Interaction[Any], typed: str
) -> list[app_commands.Choice[str]]:
    """Suggest the parts that people play."""
    return await _suggest(interaction, typed, held=True)


async def _suggest(
    interaction: discord.Interaction[Any], typed: str, *, held: bool
) -> list[app_commands.Choice[str]]:
    try:
        bard = bard_of(interaction)
        require_person(interaction, bard)
        place = place_of(interaction)
        names = [part.name for part in await bard.scenes.parts.held(place)]
        if not held:
            taken = {name.lower() for name in names}
            found = await bard.suggestions.speakers(place, typed, _CHOICES + len(taken))
            names = [name for name in found if name.lower() not in taken]
    except RejectedError:
        return []  # not for this person, the bard shuts down, or its database cannot be used
    except Exception:
        log.exception("Could not suggest parts")
        return []
    wanted = typed.strip().casefold()
    fitting = [name for name in names if wanted in name.casefold()]
    return [app_commands.Choice(name=name, value=name) for name in fitting[:_CHOICES]]


async def _announce(
    interaction: discord.Interaction[Any], acknowledgement: Acknowledgement, text: Text, part: str
) -> None:
    language = language_of(interaction, private=acknowledgement.private)
    person = plain(interaction.user.display_name)
    await edit_response(interaction, content=language(text, person=person, part=part))
