"""Settings from the environment and `.env`, and the errors for invalid values."""

import re
from pathlib import Path

import pytest

from bot import Settings, StartupError, load_standalone_settings

# The working directory is an empty folder: see `conftest.py`.


def test_defaults() -> None:
    settings = load_standalone_settings()
    assert settings.token is None
    assert settings.database_path == Path("var/bard.sqlite3")
    assert settings.weights is None
    assert settings.corpus is None
    assert settings.runs_path == Path("var/runs")
    assert settings.owner_ids == settings.guilds == frozenset()
    assert settings.serves(1)
    assert settings.max_chars == 4000
    assert 1 <= settings.workers <= 64
    assert settings.queue == 32
    assert settings.cooldown == 3
    assert settings.retention_days is None
    assert settings.dev_guild_id is None
    assert settings.shard_count is None
    assert settings.shard_ids is None
    assert settings.shared_dir is None
    assert settings.log_level == "INFO"
    assert settings.log_format == "auto"
    assert settings.http_port is None
    assert settings.http_host == "127.0.0.1"


def test_environment_overrides_the_file_and_unknown_names_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(
        "DISCORD_TOKEN=secret\nBARD_MAX_CHARS=10\nBARD_OWNER_IDS=1, 2,\nOTHER=x\nBARD_OTHER=x\n"
        "BARD_LOG_LEVEL=debug\nBARD_WEIGHTS=\n"
    )
    monkeypatch.setenv("BARD_MAX_CHARS", "20")
    settings = load_standalone_settings()
    assert settings.token is not None
    assert settings.token.get_secret_value() == "secret"
    assert settings.max_chars == 20
    assert settings.owner_ids == {1, 2}
    assert settings.log_level == "DEBUG"
    assert settings.weights is None


def test_empty_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "")
    assert load_standalone_settings().token is None


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BARD_MAX_CHARS", "0", "from 1 to 4000"),
        ("BARD_MAX_CHARS", "4001", "from 1 to 4000"),
        ("BARD_MAX_CHARS", "many", "from 1 to 4000"),
        ("BARD_WORKERS", "65", "from 1 to 64"),
        ("BARD_QUEUE", "0", "from 1 to 1000"),
        ("BARD_COOLDOWN", "3601", "from 0 to 3600"),
        ("BARD_RETENTION_DAYS", "0", "of days from 1"),
        ("BARD_OWNER_IDS", "1,romeo", "user ids, separated by commas"),
        ("BARD_OWNER_IDS", "-1", "user ids, separated by commas"),
        ("BARD_DEV_GUILD_ID", "globe", "whole number"),
        ("BARD_LOG_LEVEL", "loud", "DEBUG, INFO"),
        ("BARD_LOG_FORMAT", "xml", "auto, text or json"),
        ("BARD_HTTP_PORT", "65536", "a port number"),
        ("BARD_SHARD_COUNT", "0", "from 1 to 9999"),
    ],
)
def test_error_names_the_variable_its_value_and_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as caught:
        load_standalone_settings()
    assert name in str(caught.value)
    assert value.rpartition(",")[2] in str(caught.value)
    assert allowed in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("ids", "expected"),
    [("0", (0,)), ("0,1", (0, 1)), ("2-4", (2, 3, 4)), ("0, 2-3 5", (0, 2, 3, 5)), ("", None)],
)
def test_shards_are_numbers_or_ranges(
    monkeypatch: pytest.MonkeyPatch, ids: str, expected: tuple[int, ...] | None
) -> None:
    monkeypatch.setenv("BARD_SHARD_COUNT", "6")
    monkeypatch.setenv("BARD_SHARD_IDS", ids)
    settings = load_standalone_settings()
    assert (settings.shard_count, settings.shard_ids) == (6, expected)


@pytest.mark.parametrize(
    ("count", "ids"),
    [
        *(("4", ids) for ids in ("4", "0-4", "0,0", "1-2,2", "-1", "a", "3-1", ",", "0-99999999")),
        ("", "0"),
        ("0", "0"),
    ],
)
def test_shards_that_the_count_does_not_have_are_refused(
    monkeypatch: pytest.MonkeyPatch, count: str, ids: str
) -> None:
    monkeypatch.setenv("BARD_SHARD_COUNT", count)
    monkeypatch.setenv("BARD_SHARD_IDS", ids)
    with pytest.raises(StartupError, match=r"BARD_SHARD_IDS is .*each once and below") as caught:
        load_standalone_settings()
    assert caught.value.exit_code == 2


def test_error_names_every_invalid_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARD_MAX_CHARS", "0")
    monkeypatch.setenv("BARD_WORKERS", "0")
    with pytest.raises(StartupError, match=r"BARD_MAX_CHARS.*BARD_WORKERS"):
        load_standalone_settings()


def test_binary_env_file_is_an_error() -> None:
    Path(".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartupError, match=r"\.env"):
        load_standalone_settings()


def test_repr_hides_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "very.secret")
    assert "very.secret" not in repr(load_standalone_settings())


def test_example_file_documents_every_setting() -> None:
    example = Path(__file__).parents[2] / ".env.example"
    names = {
        line.lstrip("# ").partition("=")[0]
        for line in example.read_text(encoding="utf-8").splitlines()
        if "=" in line
    }
    expected = {f"BARD_{name.upper()}" for name in Settings.model_fields if name != "token"}
    assert names == expected | {"DISCORD_TOKEN"}


def test_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", readme, re.MULTILINE))
    expected = {f"BARD_{name.upper()}" for name in Settings.model_fields if name != "token"}
    assert listed == expected | {"DISCORD_TOKEN"}
