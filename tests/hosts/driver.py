"""Drive a foreign host that loads the extension; print what is observed as one line of JSON.

Runs as a program in the environment of the wheel, in the folder of the host, whose module `bot`
it imports. The first argument names a function of `SCENARIOS`.
"""

import asyncio
import copy
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import discord
import simcord
import torch
from discord import app_commands
from discord.ext import commands
from simcord.actors import MemberActor
from simcord.results import InteractionResult

EXTENSION = "noskgpt_bard"
MENU = "Continue as Shakespeare"
CHANNELS, LIMITS = "bard:settings:channels", "bard:settings:limits"
SETTLE_SECONDS = 90.0
"""Time that the simulation gives the host to finish its work, a training run included."""
QUICK = {"minutes": 1, "preset": "quick"}
LONG = {"minutes": 30, "preset": "quick"}

Observed = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A line of the log, without its exception, which would keep the extension alive."""

    name: str
    level: int
    path: str
    text: str


class Records(logging.Handler):
    """The host's log: every record, those of the extension included."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = Record(record.name, record.levelno, record.pathname, record.getMessage())
        self.all.append(line)

    def ours(self) -> list[Record]:
        """Return the records that code of the wheel has written."""
        folders = tuple(f"{folder}{os.sep}" for folder in packages().values())
        return [record for record in self.all if record.path.startswith(folders)]

    def warnings(self) -> list[str]:
        return [record.text for record in self.ours() if record.level >= logging.WARNING]


def packages() -> dict[str, str]:
    """Return the folders of the wheel's packages."""
    folders = {}
    for name in (EXTENSION, "noskgpt"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folders[name] = str(Path(spec.origin).parent)
    return folders


class World:
    """A host in a simulated server, and the people there.

    Attributes:
        ann: Owns the host and manages the server.
        meg: Manages the server.
        ben: An ordinary member.
        outlaw: A member that the host rejects.
    """

    def __init__(self, host: Any, stack: AsyncExitStack) -> None:
        self.host = host
        self._stack = stack
        self.env = simcord.Env(host, check_errors=False, settle_timeout=SETTLE_SECONDS)
        self.guild = self.env.create_guild("The Globe")
        self.garden = self.guild.create_text_channel("garden")
        managers = self.guild.create_role(
            "Managers", permissions=discord.Permissions(administrator=True)
        )
        self.ann = self.guild.add_member(self.env.create_user("ann"), roles=[managers])
        self.meg = self.guild.add_member(self.env.create_user("meg"), roles=[managers])
        self.ben = self.guild.add_member(self.env.create_user("ben"))
        self.outlaw = self.guild.add_member(self.env.create_user("outlaw"))

    @property
    def bard(self) -> Any:
        """The services of the extension."""
        return self.host.get_cog(EXTENSION).bard

    def syncs(self) -> int:
        """Return how many times commands were registered."""
        return sum(
            request.method != "GET" and "/commands" in request.path
            for request in self.env.http_requests
        )

    async def enter(self, host: Any) -> None:
        """Begin `async with host`, in which a host may load extensions before it logs in."""
        await self._stack.enter_async_context(host)
        host.owner_id = self.ann.id
        if hasattr(host, "before_login"):
            await host.before_login()

    async def replace(self, host: Any) -> None:
        """End the host and start another."""
        old, self.host = self.host, host
        await self.enter(host)
        await self.env.restart_bot(host)
        await old.close()

    async def slash(self, member: MemberActor, name: str, **options: Any) -> str:
        return said(await member.slash(self.garden, name, **options))


@asynccontextmanager
async def world_of(host: Any) -> AsyncIterator[World]:
    """Run a host."""
    async with AsyncExitStack() as stack:
        world = World(host, stack)
        stack.push_async_callback(world.env.shutdown)
        await world.enter(host)
        await world.env.start()
        stack.enter_context(world.env.time_context())
        yield world


def prepare(host: Any) -> None:
    """Let a host that has settings for the extension set them."""
    if hasattr(host, "use_settings"):
        host.use_settings()


def said(result: InteractionResult) -> str:
    """Return all text that answers an interaction."""
    parts: list[str | None] = []
    for message in (result.response, *result.followups):
        if message is not None:
            parts.append(message.content)
            for embed in message.embeds:
                parts += [embed.author.name, embed.description, embed.footer.text]
                parts += [field.value for field in embed.fields]
            parts += [attachment.filename for attachment in message.attachments]
    return "\n".join(part for part in parts if part)


def labels(result: InteractionResult) -> list[str]:
    rows = result.response.components if result.response else []
    return [item["label"] for row in rows for item in row["components"]]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that a thread or another process does."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while not condition():  # noqa: ASYNC110 - it is another process's doing
            await asyncio.sleep(0.01)


# What an extension may leave behind


def children() -> list[int]:
    """Return the ids of this process's child processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(path.parent.name))
    return found


def files() -> list[str]:
    """Return what the open file descriptors refer to."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(path.readlink()))
        except OSError:  # the one that lists the folder
            continue
    return sorted(found)


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate())


def tasks() -> list[str]:
    current = asyncio.current_task()
    return sorted(str(task.get_coro()) for task in asyncio.all_tasks() if task is not current)


def contents(value: object) -> Any:
    """Return a value for comparison: containers by their items, objects by identity."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            # discord.py keeps an empty list for an event that nothing listens to any more.
            kept = {str(key): contents(item) for key, item in value.items()}
            return {key: item for key, item in kept.items() if item != []}
        case list() | tuple() | set() | frozenset():
            return sorted(str(contents(item)) for item in value)
        case _:
            return f"{type(value).__name__} {id(value)}"


def snapshot(host: Any) -> Observed:
    """Return the state of the host and of its process that the extension must not change."""
    views = host._connection._view_store
    # What `is_owner` remembers, and what the host records.
    volatile = {"owner_id", "owner_ids", "_application", "checked", "failed"}
    loggers = ("", "discord", "noskgpt", EXTENSION, "bot", "asyncio")
    return {
        "tasks": tasks(),
        "threads": threads(),
        "children": children(),
        "files": files(),
        "loggers": {
            name: [
                logging.getLogger(name).level,
                logging.getLogger(name).propagate,
                logging.getLogger(name).disabled,
                contents(logging.getLogger(name).handlers),
                contents(logging.getLogger(name).filters),
            ]
            for name in loggers
        },
        "signals": {str(n): contents(signal.getsignal(n)) for n in signal.valid_signals()},
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "hooks": [contents(sys.excepthook), contents(threading.excepthook), contents(sys.stderr)],
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype())],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "host": {k: contents(v) for k, v in vars(host).items() if k not in volatile},
        "tree": contents(vars(host.tree)),
        "views": contents(vars(views)),
        "state": {
            name: contents(value)
            for name, value in vars(host._connection).items()
            if name in {"allowed_mentions", "_intents", "_activity", "_status", "_translator"}
        },
    }


async def left_behind(host: Any, before: Observed) -> Observed:
    """Return what differs from a snapshot: by name, what it was and what it is."""
    # The libraries' threads for a connection and for a child process end just after these.
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while threads() != before["threads"]:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
    return differences(before, snapshot(host))


def differences(before: Observed, after: Observed) -> Observed:
    found: Observed = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found |= {f"{name}.{k}": v for k, v in differences(old, new).items()}
        elif old != new:
            found[name] = [old, new]
    return found


# What members do


async def use_host(world: World) -> Observed:
    """Use what the host itself has; return its answers, and what its handlers were given."""
    host, garden, ben = world.host, world.garden, world.ben
    host.checked.clear()
    host.failed.clear()
    prefix = "!" if host.command_prefix == "!" else f"<@{host.user.id}> "
    answers = [await world.slash(ben, "about")]
    settings = await ben.slash(garden, "settings")
    assert settings.response is not None
    answers.append(said(settings))
    answers += [
        said(await ben.click(settings.response, label=label)) for label in ("Vote", "Roles")
    ]
    await ben.send(garden, f"{prefix}ping")
    assert garden.last_message is not None
    answers.append(garden.last_message.content)
    await ben.send(garden, f"{prefix}stumble")
    await ben.send(garden, f"{prefix}listeners fail" if prefix != "!" else "listeners fail")
    answers.append(await world.slash(ben, "fail"))
    rejected = await world.outlaw.slash(garden, "about")
    return {
        "answers": answers,
        "checked": list(host.checked),
        "failed": list(host.failed),
        "outlaw": rejected.acknowledged,
    }


async def use_bard(world: World) -> Observed:
    """Use all that members, managers and the owner have, failures included."""
    world.host.failed.clear()
    return {
        "players": await play(world),
        "data": await export_and_forget(world),
        "managers": await manage(world),
        "failures": await fail(world),
        "host saw": list(world.host.failed),
    }


async def cooldown_is_over(world: World) -> None:
    await world.env.advance_time(4)


async def play(world: World) -> Observed:
    """Ask for a reply, and press its buttons."""
    garden, ann, ben = world.garden, world.ann, world.ben
    await cooldown_is_over(world)
    seen: Observed = {"choices": await ben.autocomplete(garden, "bard", "prompt", "ro")}
    reply = await ben.slash(garden, "bard", prompt="ROMEO:", max_chars=40)
    assert reply.response is not None
    seen |= {"reply": said(reply), "buttons": labels(reply)}
    refused = await ben.slash(garden, "bard", prompt="ROMEO:")
    seen |= {"refused": said(refused), "refused in private": refused.ephemeral}
    seen["outlaw"] = (await world.outlaw.slash(garden, "bard", prompt="ROMEO:")).acknowledged
    await cooldown_is_over(world)
    await ben.click(reply.response, label="Reroll")
    seen["rerolled"] = said(reply)
    await ben.click(reply.response, label="◀ Earlier take")
    seen["earlier"] = said(reply)
    await cooldown_is_over(world)
    continued = await ann.click(reply.response, label="Continue")
    assert continued.response is not None
    seen["continued"] = said(continued)
    seen["not yours"] = said(await ben.click(continued.response, label="Delete"))
    await ann.click(continued.response, label="Delete")
    seen["deleted"] = continued.response is None
    await cooldown_is_over(world)
    spoken = await ann.send(garden, "But soft, what light")
    seen["menu"] = said(await ann.context_menu(garden, MENU, spoken))
    return seen


async def export_and_forget(world: World) -> Observed:
    garden, ben = world.garden, world.ben
    everything = {"what": "all about me, as JSON"}
    seen: Observed = {
        "show": await world.slash(ben, "scene show"),
        "script": await world.slash(ben, "scene export", what="the scene, as a script"),
        "export": await world.slash(ben, "scene export", **everything),
    }
    asked = await ben.slash(garden, "scene forget", what="my words, everywhere")
    assert asked.response is not None
    await ben.click(asked.response, label="Forget my words")
    seen["forgotten"] = said(asked)
    seen["nothing left"] = await world.slash(ben, "scene export", **everything)
    return seen


async def manage(world: World) -> Observed:
    """Use what managers and the owner have; leave a form open, for the unloading."""
    garden, ann = world.garden, world.ann
    card = await ann.slash(garden, "bard-about")
    seen: Observed = {
        "about": [embed.title for embed in card.response.embeds] if card.response else [],
        "not the owner": await world.slash(world.meg, "train history"),
        "owner": await world.slash(ann, "train history"),
    }
    settings = await ann.slash(garden, "bard-settings")
    assert settings.response is not None
    form = await ann.click(settings.response, custom_id=LIMITS)
    await ann.submit_modal(form, {"Cooldown": "2"})
    seen["settings"] = said(settings)
    opened = await ann.click(settings.response, custom_id=LIMITS)
    seen["form"] = opened.modal is not None
    return seen


async def fail(world: World) -> Observed:
    """Let each kind of interaction and a listener fail."""
    garden, ann, ben, bard = world.garden, world.ann, world.ben, world.bard
    await cooldown_is_over(world)
    spoken = await ann.send(garden, "But soft, what light")
    reply = await ben.slash(garden, "bard", prompt="ROMEO:", max_chars=40)
    settings = await ann.slash(garden, "bard-settings")
    assert reply.response is not None
    assert settings.response is not None
    seen: Observed = {}
    await cooldown_is_over(world)
    with failing(bard.inference.model, "generate"):
        seen["command"] = await world.slash(ben, "bard", prompt="ROMEO:")
        seen["button"] = said(await ann.click(reply.response, label="Continue"))
        seen["menu"] = said(await world.meg.context_menu(garden, MENU, spoken))
    with failing(bard.runs, "newest"):
        seen["group"] = await world.slash(ann, "train history")
    with failing(bard.guild_settings, "change"):
        chosen = await ann.select(settings.response, [garden], custom_id=CHANNELS)
        seen["view"] = said(chosen)
        form = await ann.click(settings.response, custom_id=LIMITS)
        seen["form"] = said(await ann.submit_modal(form, {"Cooldown": "2"}))
    for name in ("bard", "train promote", "scene export"):
        with outdated(world, name.split()[0]):
            seen[f"outdated {name}"] = await world.slash(ann, name)
    # Nobody gets an answer to these two.
    with failing(bard.suggestions, "find"):
        choices = await ben.autocomplete(garden, "bard", "prompt", "ro")
    assert choices == []
    with failing(bard.scenes, "delete_messages"):
        await ann.delete(reply.response)
    return seen


@contextmanager
def failing(service: Any, method: str) -> Iterator[None]:
    """Let a method of a service raise an error."""

    def raise_error(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("injected")

    setattr(service, method, raise_error)
    try:
        yield
    finally:
        delattr(service, method)


@contextmanager
def outdated(world: World, name: str) -> Iterator[None]:
    """Let Discord have an older definition of a command, without the options required now."""
    command = world.env.backend.find_command(name, None)
    assert command is not None
    options = command["options"]
    command["options"] = copy.deepcopy(options)
    for level in (command, *command["options"]):
        level["options"] = [o for o in level.get("options", []) if not o.get("required")]
    try:
        yield
    finally:
        command["options"] = options


# Scenarios


async def life() -> Observed:
    """Load the extension into a running host, use and unload it; then in the host's own way."""
    records = log_everything()
    module = importlib.import_module("bot")
    seen: Observed = {"environment": environment(module)}
    async with world_of(module.create()) as world:
        host = world.host
        seen["before"] = await use_host(world)
        prepare(host)
        before = snapshot(host)

        syncs = world.syncs()
        await host.load_extension(EXTENSION)
        seen["loaded"] = {
            "syncs": world.syncs() - syncs,
            "bot": str(Path(sys.modules["bot"].__file__ or "").relative_to(Path.cwd())),
            "modules": modules(),
            "settings": settings_of(world),
            "files": [name for name in files() if ".sqlite3" in name],
        }
        await host.tree.sync()
        seen["used"] = await use_bard(world)
        seen["during"] = await use_host(world)
        seen["threads"] = threads()
        seen["changed"] = sorted(differences(before, snapshot(host)))

        syncs = world.syncs()
        extension = modules_by_weak_reference()
        await host.unload_extension(EXTENSION)
        seen["left"] = await left_behind(host, before)
        seen["kept alive"] = alive(world, extension)
        seen["modules after"] = modules()
        seen["after"] = await use_host(world)
        seen["unknown command"] = await world.slash(world.ben, "bard", prompt="ROMEO:")

        await host.load_extension(EXTENSION)
        seen["used again"] = await use_bard(world)
        await host.reload_extension(EXTENSION)
        seen["reloaded"] = await use_bard(world)
        seen["after reload"] = await use_host(world)
        await host.unload_extension(EXTENSION)
        seen["left by reload"] = await left_behind(host, before)
        seen["syncs later"] = world.syncs() - syncs

        await world.replace(module.create(EXTENSION))
        seen["own way"] = await use_bard(world)
        seen["own way host"] = await use_host(world)
        seen["busy"] = await unload_while_busy(world)
    seen["loggers"] = sorted({record.name for record in records.ours()})
    seen["folder"] = sorted(path.name for path in Path.cwd().iterdir())
    return seen


async def unload_while_busy(world: World) -> Observed:
    """Unload during a reply and during a training run."""
    host, garden = world.host, world.garden
    seen: Observed = {}
    await world.env.advance_time(4)
    loop = asyncio.get_running_loop()
    started, release = asyncio.Event(), threading.Event()
    model = world.bard.inference.model
    generate = model.generate

    def wait_and_generate(*args: Any, **kwargs: Any) -> str:
        loop.call_soon_threadsafe(started.set)
        release.wait(SETTLE_SECONDS)
        return str(generate(*args, **kwargs))

    model.generate = wait_and_generate
    asking = asyncio.create_task(world.ben.slash(garden, "bard", prompt="ROMEO:", max_chars=40))
    await started.wait()
    unloading = asyncio.create_task(host.unload_extension(EXTENSION))
    ended, _ = await asyncio.wait({unloading}, timeout=0.1)
    seen["waits for the reply"] = not ended
    release.set()
    await unloading
    seen["reply"] = said(await asking)
    seen["modules"] = modules()
    await until(lambda: len(threads()) == 1)
    before = snapshot(host)

    await host.load_extension(EXTENSION)
    asking = asyncio.create_task(world.ann.slash(garden, "train start", **LONG))
    training = world.bard.training
    await until(lambda: training.active is not None)
    seen["children"] = len(children())
    await host.unload_extension(EXTENSION)
    started_run = await asking
    seen["run"] = said(started_run)
    seen["left"] = await left_behind(host, before)
    await host.load_extension(EXTENSION)
    seen["history"] = await world.slash(world.ann, "train history")
    seen["host"] = await use_host(world)
    return seen


async def training() -> Observed:
    """Train a short run to its end, promote it, and undo that."""
    records = log_everything()
    module = importlib.import_module("bot")
    seen: Observed = {}
    async with world_of(module.create(EXTENSION)) as world:
        garden, ann = world.garden, world.ann
        seen["before"] = await world.slash(world.ben, "bard-about")
        world.host.failed.clear()
        plan_steps(world.bard.training, 8)
        seen["refused"] = await world.slash(world.meg, "train start", **QUICK)
        run = await ann.slash(garden, "train start", **QUICK)
        seen["run"] = said(run)
        seen["buttons"] = labels(run)
        assert run.response is not None
        await world.meg.click(run.response, label="Promote")
        seen["still"] = labels(run)
        await ann.click(run.response, label="Promote")
        seen["promoted"] = said(run)
        await world.env.advance_time(4)
        seen["reply"] = await world.slash(world.ben, "bard", prompt="ROMEO:", max_chars=20)
        seen["after"] = await world.slash(world.ben, "bard-about")
        seen["history"] = await world.slash(ann, "train history")
        seen["rollback"] = await world.slash(ann, "train rollback")
        seen["host saw"] = list(world.host.failed)
        seen["threads"] = threads()
        seen["host"] = await use_host(world)
    seen["loggers"] = sorted({record.name for record in records.ours()})
    seen["children"] = children()
    return seen


def plan_steps(runner: Any, steps: int) -> None:
    """Let runs make a number of steps, however many fit into their minutes on this machine."""
    spawn = runner._spawn

    def limited(run: Any, options: tuple[str, ...], errors: Any) -> Any:
        at = options.index("--minutes")
        return spawn(run, (*options[:at], "--steps", f"{steps}", *options[at + 2 :]), errors)

    runner._spawn = limited


async def collisions() -> Observed:
    """Load the extension into hosts that have a command of its names."""
    log_everything()
    module = importlib.import_module("bot")
    seen: Observed = {}
    for name, add in {"/bard": add_command, "/train": add_group, MENU: add_menu}.items():
        async with world_of(module.create()) as world:
            host = world.host
            add(host)
            await host.tree.sync()
            prepare(host)
            before = snapshot(host)
            try:
                await host.load_extension(EXTENSION)
            except commands.ExtensionFailed as error:
                problem = str(error)
            else:
                problem = "none"
            seen[name] = {
                "problem": problem,
                "left": await left_behind(host, before),
                "modules": modules(),
                "files": [str(path) for path in Path.cwd().rglob("*.sqlite3*")],
                "host": await use_host(world),
            }
            if name == MENU:
                spoken = await world.ben.send(world.garden, "But soft")
                result = await world.ben.context_menu(world.garden, MENU, spoken)
            else:
                own = {"/bard": "bard", "/train": "train start"}
                result = await world.ben.slash(world.garden, own[name])
            seen[name]["own"] = said(result)
    return seen


def add_command(host: Any) -> None:
    @host.tree.command(name="bard", description="The host's own.")  # type: ignore[untyped-decorator]
    async def bard(interaction: discord.Interaction[Any]) -> None:
        await interaction.response.send_message("The host's own")


def add_group(host: Any) -> None:
    group = app_commands.Group(name="train", description="The host's own.")

    @group.command(name="start", description="The host's own.")
    async def start(interaction: discord.Interaction[Any]) -> None:
        await interaction.response.send_message("The host's own")

    host.tree.add_command(group)


def add_menu(host: Any) -> None:
    async def menu(interaction: discord.Interaction[Any], _message: discord.Message) -> None:
        await interaction.response.send_message("The host's own")

    host.tree.add_command(app_commands.ContextMenu(name=MENU, callback=menu))


async def few_intents() -> Observed:
    """Load the extension into a host without intents."""
    records = log_everything()
    module = importlib.import_module("bot")
    seen: Observed = {}
    async with world_of(module.create(EXTENSION, discord.Intents.none())) as world:
        seen["used"] = await use_bard(world)
        seen["host saw"] = list(world.host.failed)
        seen["warnings"] = records.warnings()
    return seen


async def example() -> Observed:
    """Run examples/host.py with the settings that it starts with."""
    log_everything()
    host = importlib.import_module("host").Host()
    async with world_of(host) as world:
        return {
            "packages": packages(),
            "syncs": world.syncs(),
            "german": {
                command["name"]: (command.get("name_localizations") or {}).get("de")
                for request in world.env.http_requests
                if request.method == "PUT" and request.path.endswith("/commands")
                for command in request.json or ()
            },
            "own": await world.slash(world.ben, "ping"),
            "bard": await world.slash(world.ben, "bard", prompt="ROMEO:", max_chars=200),
            "privileged": [
                name
                for name in ("members", "presences", "message_content")
                if getattr(host.intents, name)
            ],
        }


def log_everything() -> Records:
    """Set up the host's logging."""
    records = Records()
    logging.getLogger().addHandler(records)
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("discord").setLevel(logging.INFO)
    logging.getLogger("numba").setLevel(logging.INFO)
    return records


def environment(module: Any) -> Observed:
    """Return where packages come from."""
    return {
        "bot": module.__file__,
        "packages": packages(),
        "version": importlib.metadata.version("noskgpt-bard"),
        "distribution": str(importlib.metadata.distribution("noskgpt-bard").locate_file("")),
        "prefix": sys.prefix,
        "finders": [str(finder) for finder in sys.meta_path],
        "path": list(sys.path),
        "tests": importlib.util.find_spec("tests") is not None,
    }


def settings_of(world: World) -> Observed:
    settings = world.bard.settings
    return {
        "token": settings.token is not None,
        "database": str(settings.database_path),
        "runs": str(settings.runs_path),
        "cooldown": settings.cooldown,
        "max_chars": settings.max_chars,
    }


def modules() -> list[str]:
    return sorted(name for name in sys.modules if name.split(".")[0] == EXTENSION)


def modules_by_weak_reference() -> dict[str, Any]:
    return {name: weakref.ref(sys.modules[name]) for name in modules()}


def alive(world: World, references: dict[str, Any]) -> list[str]:
    """Return which modules something still refers to."""
    # The simulation keeps errors of views, hence their frames.
    world.env._errors.clear()
    gc.collect()
    return [name for name, reference in references.items() if reference() is not None]


SCENARIOS = {
    function.__name__: function for function in (life, training, collisions, few_intents, example)
}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(SCENARIOS[sys.argv[1]]())))  # noqa: T201
