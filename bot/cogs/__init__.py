"""Application commands: what members type, and events that change what is stored."""

from discord import AppCommandType

from ..ui.components import Button
from ..ui.queue_status import StopButton
from ..ui.replies import Continue, Delete, Reroll, ShowTake
from ..ui.training_status import Discard, Promote
from .about import AboutCog
from .bard import MENU, AskCog
from .base import BardCog
from .retention import RetentionCog
from .scene import ConfirmForget, SceneCog, TurnPage
from .settings import SettingsCog
from .sharing import SharingCog
from .shutdown import ShutdownCog
from .train import TrainCog

COGS: tuple[type[BardCog], ...] = (
    ShutdownCog,  # first: see there
    AskCog,
    SceneCog,
    SettingsCog,
    AboutCog,
    TrainCog,
    RetentionCog,
    SharingCog,
)
"""Every cog of the extension."""

COMMANDS: tuple[tuple[str, AppCommandType], ...] = (
    ("bard", AppCommandType.chat_input),
    (MENU, AppCommandType.message),
    ("scene", AppCommandType.chat_input),
    ("bard-settings", AppCommandType.chat_input),
    ("bard-about", AppCommandType.chat_input),
    ("train", AppCommandType.chat_input),
)
"""Name and type of every command that the cogs add."""

BUTTONS: tuple[type[Button], ...] = (
    Continue,
    Reroll,
    ShowTake,
    Delete,
    StopButton,
    TurnPage,
    ConfirmForget,
    Promote,
    Discard,
)
"""Every kind of button, which the client recognises after a restart."""
