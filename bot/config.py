"""The bot's settings, read from the environment and from `.env` in the working directory."""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import StartupError

REPLY_LIMIT = 4000
"""Largest reply in characters: what two embeds hold with room for the prompt and the footer."""

COOLDOWN_LIMIT = 3600
"""Longest cooldown in seconds."""

SNOWFLAKE = "a Discord id: a whole number such as 80351110224678912"


class Settings(BaseSettings):
    """Every setting. Each field's description says what is allowed.

    A field `x` is read from `BARD_X`, except the token, which has Discord's customary name.
    An empty value means the default.
    """

    model_config = SettingsConfigDict(
        env_prefix="BARD_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    token: SecretStr | None = Field(
        default=None,
        validation_alias="DISCORD_TOKEN",
        description="the bot token from Discord's portal",
    )
    database: Path = Field(default=Path("var/bard.sqlite3"), description="a path of a file")
    weights: Path | None = Field(
        default=None, description="a path of a file; empty: the bundled weights"
    )
    corpus: Path | None = Field(
        default=None, description="a path of a file; empty: the bundled plays"
    )
    runs_dir: Path = Field(default=Path("var/runs"), description="a path of a folder")
    keep_runs: int = Field(default=5, ge=0, le=1000, description="a whole number from 0 to 1000")
    auto_promote: bool = Field(default=False, description="true or false")
    owner_ids: Annotated[frozenset[Annotated[int, Field(gt=0)]], NoDecode] = Field(
        default=frozenset(), description="Discord user ids, separated by commas"
    )
    max_chars: int = Field(
        default=REPLY_LIMIT,
        ge=1,
        le=REPLY_LIMIT,
        description=f"a whole number from 1 to {REPLY_LIMIT}",
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
        le=COOLDOWN_LIMIT,
        description=f"whole seconds from 0 to {COOLDOWN_LIMIT}",
    )
    retention_days: int | None = Field(
        default=None, ge=1, le=36500, description="a whole number of days from 1; empty: for ever"
    )
    dev_guild_id: int | None = Field(default=None, gt=0, description=SNOWFLAKE)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL"
    )

    @field_validator("token", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        return (value.strip() or None) if isinstance(value, str) else value

    @field_validator("owner_ids", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part for part in value.replace(",", " ").split() if part]
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        known = logging.getLevelNamesMapping()
        return value.upper() if isinstance(value, str) and value.upper() in known else value


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        StartupError: A value is not allowed; names the variable, the value (never the token's)
            and what is allowed. Exit code 2, as for a wrong command line.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong: dict[str, object] = {}
        for item in error.errors():  # a list has one for each of its bad items
            wrong.setdefault(str(item["loc"][0]), item["input"])
        raise StartupError("; ".join(map(_explain, wrong, wrong.values())), exit_code=2) from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"Cannot read .env: {error}", exit_code=2) from error


def _explain(name: str, value: object) -> str:
    field = Settings.model_fields.get(name)
    if field is None:  # the token, under its alias
        return f"{name} is not valid"
    return f"BARD_{name.upper()} is {value!r}; allowed: {field.description}"
