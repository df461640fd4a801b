"""The installed extension in two foreign hosts: a file `bot.py`, and a package `bot`."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.cogs import BUTTONS, COGS, COMMANDS
from bot.errors import Reason
from bot.ui.responses import OUTDATED, REJECTIONS, UNEXPECTED
from tests.hosts.conftest import Observed
from tests.wheel import ROOT

HOSTS = ("file_host", "package_host")
NAMES = {"file_host": "the file host", "package_host": "the package host"}


Drive = Callable[[str, str], Observed]


@pytest.mark.parametrize("host", HOSTS)
def test_running_host_loads_uses_unloads_and_reloads_the_extension(drive: Drive, host: str) -> None:
    """In one test, because the scenario takes long: the names of the checks say what fails."""
    life = drive(host, "life")
    for check in (
        extension_is_the_wheels_and_bot_is_the_hosts,
        host_works_before_during_and_after,
        members_get_replies_and_press_buttons,
        members_export_and_forget,
        managers_and_the_owner_of_the_host_are_known,
        errors_are_answered_and_never_reach_the_host,
        only_what_is_declared_is_added,
        threads_are_its_own_and_named,
        unload_leaves_nothing,
        unload_finishes_replies_and_stops_training,
        commands_after_unload_are_the_hosts_matter,
        settings_are_those_of_the_host,
        nothing_is_written_into_the_folder_of_the_host,
        logs_are_under_its_own_names,
    ):
        check(life, host)


def use_of(life: Observed) -> list[Observed]:
    """Return what members saw each time that the extension was loaded."""
    return [life[time] for time in ("used", "used again", "reloaded", "own way")]


def extension_is_the_wheels_and_bot_is_the_hosts(life: Observed, host: str) -> None:
    environment, place, prefix = life["environment"], life["place"], life["prefix"]
    assert environment["bot"].startswith(f"{place}/bot")
    assert life["loaded"]["bot"] == {"file_host": "bot.py"}.get(host, "bot/__init__.py")
    assert environment["prefix"] == prefix
    assert environment["distribution"].startswith(f"{prefix}/lib/")
    for name, folder in environment["packages"].items():
        assert folder == f"{environment['distribution']}/{name}"
    assert str(ROOT) not in environment["path"]
    assert not [finder for finder in environment["finders"] if "editable" in finder.lower()]
    assert not environment["tests"]
    assert "noskgpt_bard.cogs.train" in life["loaded"]["modules"]


def host_works_before_during_and_after(life: Observed, host: str) -> None:
    before = life["before"]
    name = NAMES[host]
    assert before["answers"] == [
        f"About {name}",
        f"Settings of {name}",
        "Vote for 7",
        f"Roles of {name}",
        f"Pong of {name}",
        f"{name.capitalize()} apologises",
    ]
    assert [line.split(":")[0] for line in before["failed"] if "is not found" not in line] == [
        *("prefix", "event", "tree"),
    ]
    assert [name.lstrip("!@") for name in before["checked"]] == [
        *("about", "settings", "ping", "stumble", "fail", "about"),
    ]
    assert not before["outlaw"]
    for time in ("during", "after", "after reload", "own way host"):
        assert life[time] == before, time
    assert life["busy"]["host"] == before


def members_get_replies_and_press_buttons(life: Observed, _host: str) -> None:
    for used in use_of(life):
        seen = used["players"]
        assert [choice["value"] for choice in seen["choices"]] == ["ROMEO:"]
        assert re.match(r"ben asks the bard\n.+\n\d+ characters · ", seen["reply"], re.DOTALL)
        assert seen["buttons"] == ["Continue", "Reroll", "Edit prompt", "Delete"]
        assert "Take 2 of 2" in seen["rerolled"]
        assert "Take 1 of 2" in seen["earlier"]
        assert seen["continued"].startswith("ann: and then?\n")
        assert seen["not yours"].endswith(REJECTIONS[Reason.NOT_REQUESTER])
        assert seen["deleted"]
        assert seen["menu"].startswith("ann asks the bard\n")
        assert seen["outlaw"] is False  # the host's own check covers the bard
        assert re.fullmatch(
            REJECTIONS[Reason.COOLDOWN].format(seconds="[23]").replace(".", r"\."), seen["refused"]
        )
        assert seen["refused in private"]


def members_export_and_forget(life: Observed, _host: str) -> None:
    for used in use_of(life):
        seen = used["data"]
        assert re.search(r"asks the bard\n.+", seen["show"], re.DOTALL)
        assert (seen["script"], seen["export"]) == ("scene.txt", "about-me.json")
        assert re.match(r"Forgotten, word for word: \d+ speech", seen["forgotten"])
        assert seen["nothing left"] == REJECTIONS[Reason.NOTHING_STORED]


def managers_and_the_owner_of_the_host_are_known(life: Observed, _host: str) -> None:
    for used in use_of(life):
        seen = used["managers"]
        assert seen["about"] == ["The bard"]
        assert seen["not the owner"] == REJECTIONS[Reason.NOT_OWNER]
        assert seen["owner"].startswith("No training runs yet.")
        assert "Cooldown: 2 s" in seen["settings"]
        assert seen["form"]


def errors_are_answered_and_never_reach_the_host(life: Observed, _host: str) -> None:
    for used in use_of(life):
        failures = dict(used["failures"])
        for name in ("bard", "train promote", "scene export"):
            assert failures.pop(f"outdated {name}").startswith(OUTDATED), name
        assert failures.keys() == {"command", "button", "menu", "group", "view", "form"}
        for name, answer in failures.items():
            # A press also has the message with its button.
            assert re.search(re.escape(UNEXPECTED) + r" Error id: `[0-9a-f]{8}`\Z", answer), name
        assert used["host saw"] == []


def only_what_is_declared_is_added(life: Observed, _host: str) -> None:
    """Nothing of the host or of its process changes while the extension is loaded."""
    added = {"files", "tasks", "threads"}
    added |= {f"host._BotBase__cogs.{cog.__cog_name__}" for cog in COGS}
    added |= {"host._BotBase__extensions.noskgpt_bard"}
    added |= {f"host.extra_events.{event}" for cog in COGS for event, _ in cog.__cog_listeners__}
    added |= {
        f"tree._context_menus.{(name, None, kind.value)}"
        if kind.value == 3
        else f"tree._global_commands.{name}"
        for name, kind in COMMANDS
    }
    added |= {
        f"views._dynamic_items.{button.__discord_ui_compiled_template__}" for button in BUTTONS
    }
    changed = {name for name in life["changed"] if not name.startswith("views._modals.")}
    controls = {name for name in changed if name.startswith("views._views.None.")}
    assert changed - controls == added
    assert len(controls) == 9
    assert all("bard:settings:" in name or "bard:servers:" in name for name in controls)
    assert life["loaded"]["syncs"] == life["syncs later"] == 0


def threads_are_its_own_and_named(life: Observed, _host: str) -> None:
    """None of the event loop's executor, which would stay."""
    own = [name for name in life["threads"] if name.startswith("noskgpt_bard-")]
    others = sorted(set(life["threads"]) - set(own))
    assert len(own) >= 2
    assert len(others) == 3
    assert others[0] == "MainThread"
    # aiosqlite's, of the connection that writes and of the one that reads.
    assert all("_connection_worker_thread" in name for name in others[1:])


def unload_leaves_nothing(life: Observed, _host: str) -> None:
    assert life["left"] == {}
    assert life["kept alive"] == []
    assert life["modules after"] == []
    assert life["left by reload"] == {}


def unload_finishes_replies_and_stops_training(life: Observed, _host: str) -> None:
    busy = life["busy"]
    assert busy["waits for the reply"]
    assert busy["reply"].startswith("ben asks the bard\n")
    assert busy["modules"] == []
    assert busy["children"] == 1
    assert busy["run"].startswith("**Run 1: interrupted.**")
    assert busy["left"] == {}
    assert busy["history"].startswith("**Run 1**: interrupted")


def commands_after_unload_are_the_hosts_matter(life: Observed, host: str) -> None:
    assert life["unknown command"] == f"{NAMES[host].capitalize()} apologises"


def settings_are_those_of_the_host(life: Observed, host: str) -> None:
    folder = f"{life['data']}/noskgpt-bard" if host == "package_host" else "bard"
    name = "bard.sqlite3" if host == "package_host" else "scenes.sqlite3"
    assert life["loaded"]["settings"] == {
        "token": False,
        "database": f"{folder}/{name}",
        "runs": f"{folder}/runs",
        "cooldown": 3,
        "max_chars": 4000,
    }
    (database,) = {path for path in life["loaded"]["files"] if path.endswith(".sqlite3")}
    assert Path(database) == Path(life["place"], folder, name).resolve()


def nothing_is_written_into_the_folder_of_the_host(life: Observed, host: str) -> None:
    own = {"file_host": {"bot.py", "bard", "__pycache__"}, "package_host": {"bot", ".env"}}[host]
    assert set(life["folder"]) == own | {"driver.py"}


def logs_are_under_its_own_names(life: Observed, _host: str) -> None:
    assert len(life["loggers"]) > 3
    for name in life["loggers"]:
        assert re.match(r"noskgpt(_bard)?\.", name), name


def test_owner_of_the_host_trains_and_promotes(drive: Drive) -> None:
    training = drive("file_host", "training")
    logs_are_under_its_own_names(training, "file_host")
    (old,) = re.findall(r"weights (\S+)$", training["before"], re.MULTILINE)
    assert training["refused"] == REJECTIONS[Reason.NOT_OWNER]
    assert training["run"].startswith("**Run 1: finished.**")
    assert training["run"].endswith("\nlosses.png")
    assert training["buttons"] == training["still"] == ["Promote", "Discard"]
    (new,) = re.findall(r"Promoted: the weights (\S+) are active", training["promoted"])
    assert new != old
    assert " characters · " in training["reply"]
    assert f"weights {new}" in training["after"]
    assert "**active**" in training["history"]
    assert training["rollback"] == f"Rolled back: the weights {old} of the settings are active."
    assert training["host saw"] == []
    assert not [name for name in training["threads"] if name.startswith("asyncio")]
    assert training["children"] == []


def test_command_that_the_host_has_stops_the_loading(drive: Drive) -> None:
    collisions = drive("package_host", "collisions")
    for name in ("/bard", "/train", "Continue as Shakespeare"):
        _is_stopped(collisions, name)


def _is_stopped(collisions: Observed, name: str) -> None:
    seen = collisions[name]
    assert f"The bot already has the command {name}, which noskgpt_bard adds" in seen["problem"]
    assert "\n" not in seen["problem"]
    assert seen["left"] == {}
    assert seen["modules"] == []
    assert seen["files"] == []
    assert not Path(collisions["data"]).exists()
    assert seen["own"] == "The host's own"
    assert len(seen["host"]["answers"]) == 6


def test_missing_intents_cost_a_line_each_and_their_feature(drive: Drive) -> None:
    seen = drive("file_host", "few_intents")
    lines = [line for line in seen["warnings"] if line.startswith("Intents missing: ")]
    assert len(lines) == 2
    assert "guild_messages, dm_messages" in lines[0]
    assert "guilds" in lines[1]
    assert seen["used"]["players"]["reply"].startswith("ben asks the bard\n")
    assert seen["used"]["host saw"] == []


def test_example_is_a_host(drive: Drive) -> None:
    """With the bundled weights and corpus, and no setting."""
    seen = drive("example", "example")
    assert seen["packages"]["noskgpt_bard"].startswith(seen["prefix"])
    assert seen["syncs"] == 1
    assert seen["german"]["scene"] == "szene"
    assert seen["german"]["ping"] is None
    assert seen["own"] == "Pong"
    assert seen["bard"].startswith("ben asks the bard\n")
    assert seen["privileged"] == []
    assert (Path(seen["data"]) / "noskgpt-bard" / "bard.sqlite3").is_file()
    assert [path.name for path in Path(seen["place"]).iterdir() if path.suffix != ".py"] == [
        "__pycache__"
    ]
