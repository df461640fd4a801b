"""Settings: their fields, defaults and limits, read from the environment."""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from noskgpt.commands import DISTRIBUTION
from noskgpt.resources import in_checkout

from .errors import StartupError

PACKAGE_FOLDER = Path(__file__).resolve().parent

MAX_REPLY_CHARS = 4000
"""Longest reply in characters: two embeds hold it beside the prompt and the footer."""
DEFAULT_REPLY_CHARS = 400
MIN_TEMPERATURE, DEFAULT_TEMPERATURE, MAX_TEMPERATURE = 0.1, 0.8, 2.0
MAX_COOLDOWN = 3600
"""Longest cooldown in seconds."""

MAX_SHARDS = 9999
"""Largest number of shards: those of 25 million servers, if each shard is full."""
_SHARD_DIGITS = len(f"{MAX_SHARDS}")

_DISCORD_ID = "a Discord id: a whole number such as 80351110224678912"


class Settings(BaseSettings):
    """Every setting. Each field's description states the allowed values.

    A field `x` is read from the environment variable `BARD_X`; the token has its customary name,
    `DISCORD_TOKEN`. An empty value means the default. Keyword arguments take precedence.
    """

    model_config = SettingsConfigDict(
        env_prefix="BARD_",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    token: SecretStr | None = Field(
        default=None,
        validation_alias="DISCORD_TOKEN",
        description="the bot token from Discord's developer portal",
    )
    database: Path | None = Field(default=None, description="path of a file")
    weights: Path | None = Field(
        default=None, description="path of a file; empty: the bundled weights"
    )
    corpus: Path | None = Field(
        default=None, description="path of a file; empty: the bundled plays"
    )
    runs_dir: Path | None = Field(default=None, description="path of a folder")
    keep_runs: int = Field(default=5, ge=0, le=1000, description="a whole number from 0 to 1000")
    auto_promote: bool = Field(default=False, description="true or false")
    owner_ids: Annotated[frozenset[Annotated[int, Field(gt=0)]], NoDecode] = Field(
        default=frozenset(), description="Discord user ids, separated by commas"
    )
    guilds: Annotated[frozenset[Annotated[int, Field(gt=0)]], NoDecode] = Field(
        default=frozenset(), description="Discord server ids, separated by commas; empty: all"
    )
    max_chars: int = Field(
        default=MAX_REPLY_CHARS,
        ge=1,
        le=MAX_REPLY_CHARS,
        description=f"a whole number from 1 to {MAX_REPLY_CHARS}",
    )
    default_chars: int = Field(
        default=DEFAULT_REPLY_CHARS,
        ge=1,
        le=MAX_REPLY_CHARS,
        description=f"a whole number from 1 to {MAX_REPLY_CHARS}",
    )
    default_temperature: float = Field(
        default=DEFAULT_TEMPERATURE,
        ge=MIN_TEMPERATURE,
        le=MAX_TEMPERATURE,
        description=f"a number from {MIN_TEMPERATURE} to {MAX_TEMPERATURE}",
    )
    workers: int = Field(
        default_factory=lambda: min(64, os.cpu_count() or 1),
        ge=1,
        le=64,
        description="a whole number from 1 to 64",
    )
    queue: int = Field(default=32, ge=1, le=1000, description="a whole number from 1 to 1000")
    cooldown: int = Field(
        default=3,
        ge=0,
        le=MAX_COOLDOWN,
        description=f"a whole number of seconds from 0 to {MAX_COOLDOWN}",
    )
    answer_direct_messages: bool = Field(default=True, description="true or false")
    retention_days: int | None = Field(
        default=None, ge=1, le=36500, description="a whole number of days from 1; empty: forever"
    )
    dev_guild_id: int | None = Field(default=None, gt=0, description=_DISCORD_ID)
    shard_count: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SHARDS,
        description=f"a whole number from 1 to {MAX_SHARDS}; empty: Discord's recommendation",
    )
    shard_ids: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, NoDecode] = Field(
        default=None,
        description="numbers of shards such as 0,1 or 0-3, each once and below BARD_SHARD_COUNT, "
        "which has to be set as well; empty: all shards",
    )
    shared_dir: Path | None = Field(
        default=None, description="path of a folder that all processes of the bot can write to"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL"
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto, text or json"
    )
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="a port number from 1 to 65535, or 0 for a free one; empty: no server",
    )
    http_host: str = Field(default="127.0.0.1", description="a host name or an IP address")

    @field_validator("token", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        return (value.strip() or None) if isinstance(value, str) else value

    @field_validator("owner_ids", "guilds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part for part in value.replace(",", " ").split() if part]
        return value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("shard_ids", mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        ids: list[int | str] = []
        for part in value.replace(",", " ").split():
            first, dash, last = part.partition("-")
            if dash and first.isdecimal() and last.isdecimal() and len(last) <= _SHARD_DIGITS:
                ids += range(int(first), int(last) + 1)
            else:
                ids.append(part)
        return ids

    @field_validator("shard_ids")
    @classmethod
    def _below_the_count(
        cls, ids: tuple[int, ...] | None, info: ValidationInfo
    ) -> tuple[int, ...] | None:
        if ids is not None:
            count = info.data.get("shard_count") or 0
            if not ids or max(ids) >= count or len(set(ids)) < len(ids):
                raise ValueError("not shards of that count")
        return ids

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        known = logging.getLevelNamesMapping()
        return value.upper() if isinstance(value, str) and value.upper() in known else value

    @property
    def database_path(self) -> Path:
        """The SQLite file that is set, else one in the user's data folder."""
        return self.database or user_data_path(DISTRIBUTION, appauthor=False) / "bard.sqlite3"

    @property
    def runs_path(self) -> Path:
        """The folder of training runs that is set, else one in the user's data folder."""
        return self.runs_dir or user_data_path(DISTRIBUTION, appauthor=False) / "runs"

    def serves(self, guild_id: int | None) -> bool:
        """Return whether the bard may reply in a server; None means outside servers.

        The server for development counts as one of BARD_GUILDS.
        """
        return not (self.guilds and guild_id) or guild_id in {*self.guilds, self.dev_guild_id}


def load_standalone_settings() -> Settings:
    """Return the settings of a bot of its own: the environment, then `.env`.

    In a checkout, files whose path is not set are kept in `var/` under the working directory.

    Raises:
        StartupError: As `load_settings`.
    """
    settings = load_settings(Path(".env"))
    if not in_checkout():
        return settings
    return settings.model_copy(
        update={
            "database": settings.database or Path("var/bard.sqlite3"),
            "runs_dir": settings.runs_dir or Path("var/runs"),
        }
    )


def load_settings(env_file: Path | None = None) -> Settings:
    """Return the settings of the environment and, below them, of a file.

    Args:
        env_file: The file. An extension passes none: a `.env` in the working directory is its
            host's.

    Raises:
        StartupError: A value is not allowed; the message has the variable, its value (never the
            token) and the allowed values. The exit code is 2, as for a wrong command line.
    """
    try:
        return Settings(_env_file=env_file)  # type: ignore[call-arg]  # no pydantic plugin
    except ValidationError as error:
        invalid: dict[str, object] = {}
        for item in error.errors():  # a list has one entry per invalid item
            invalid.setdefault(str(item["loc"][0]), item["input"])
        message = "; ".join(map(_explain, invalid, invalid.values()))
        raise StartupError(message, exit_code=2) from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"Cannot read {env_file}: {error}", exit_code=2) from error


def _explain(name: str, value: object) -> str:
    field = Settings.model_fields.get(name)
    if field is None:  # the token, under its alias
        return f"{name} is not valid"
    return f"BARD_{name.upper()} is {value!r}; allowed: {field.description}"
