"""Application commands: what members type, and events that change what is stored."""

from discord import AppCommandType

from ..ui.components import Button
from ..ui.parts import Speak
from ..ui.queue_status import StopButton
from ..ui.replies import Continue, Delete, EditPrompt, Reroll, ShowTake
from ..ui.training_status import Discard, Promote
from ..ui.voices import ConfirmRemove
from .about import AboutCog
from .admin import AdminCog, ConfirmLeave, ServersPage
from .bard import MENU, AskCog
from .base import BardCog
from .departure import DepartureCog
from .retention import RetentionCog
from .scene import ConfirmForget, SceneCog, TurnPage
from .schedule import ScheduleCog
from .settings import SettingsCog, SettingsPage
from .sharing import SharingCog
from .shutdown import ShutdownCog
from .talk import TalkCog
from .train import TrainCog
from .words import WordsCog

COGS: tuple[type[BardCog], ...] = (
    ShutdownCog,  # first: see there
    AskCog,
    TalkCog,
    SceneCog,
    WordsCog,
    SettingsCog,
    AboutCog,
    TrainCog,
    AdminCog,
    DepartureCog,
    ScheduleCog,  # before the next, which deletes the schedules of a channel without telling
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
    ("bard-admin", AppCommandType.chat_input),
    ("schedule", AppCommandType.chat_input),
)
"""Name and type of every command that the cogs add."""

BUTTONS: tuple[type[Button], ...] = (
    Continue,
    Reroll,
    EditPrompt,
    ShowTake,
    Delete,
    Speak,
    StopButton,
    TurnPage,
    ConfirmForget,
    SettingsPage,
    ServersPage,
    ConfirmLeave,
    Promote,
    Discard,
    ConfirmRemove,
)
"""Every kind of button, which the client recognises after a restart."""
