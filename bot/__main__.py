"""The command line of the stand-alone bot: join Discord, or a simulated one."""

import asyncio
import importlib.util
import logging
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Annotated, Any

import aiohttp
import discord
import typer
from discord.ext import commands

from .client import EXTENSION, create_bot
from .config import Settings, load_standalone_settings
from .errors import StartupError

log = logging.getLogger(EXTENSION)

TOKENLESS = (
    "No DISCORD_TOKEN: put one into .env to join Discord, or run `python -m bot rehearse` "
    "to try the bot on a simulated Discord"
)

cli = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The bard on Discord. Without a command: join Discord with the token in DISCORD_TOKEN.",
)


@cli.callback(invoke_without_command=True)
def join(
    context: typer.Context,
    *,
    or_rehearse: Annotated[
        bool, typer.Option("--or-rehearse", help="Without a token, do as `rehearse` does.")
    ] = False,
) -> None:
    """Join Discord with the token in DISCORD_TOKEN."""
    if context.invoked_subcommand is not None:
        return
    settings = load_standalone_settings()
    if or_rehearse and not settings.token:
        rehearse()
        return
    configure_logging(settings)
    run(_join(settings))


@cli.command()
def rehearse(
    port: Annotated[
        int,
        typer.Option(
            help="Port of the page on this machine; 0 takes a free one.", min=0, max=65535
        ),
    ] = 8765,
    channel: Annotated[
        str | None, typer.Option(help="Channel to open; without it, the first.")
    ] = None,
) -> None:
    """Run the bot on a simulated Discord, shown as a page on this machine. Needs no token."""
    if importlib.util.find_spec("simcord") is None:
        raise StartupError(
            "The rehearsal stage is not installed: run `make run` in a checkout, "
            "or install the extra `rehearsal`"
        )
    from .rehearsal import rehearse  # noqa: PLC0415 - needs an optional dependency

    settings = load_standalone_settings()
    configure_logging(settings)
    run(rehearse(settings, port=port, channel=channel, say=typer.echo))


async def _join(settings: Settings) -> None:
    if not settings.token:
        raise StartupError(TOKENLESS, exit_code=2)
    async with create_bot(settings) as bot:
        try:
            # Before the login: a bot whose weights cannot be loaded need not join Discord.
            await bot.load_extension(EXTENSION)
        except commands.ExtensionFailed as error:
            raise error.original from error
        try:
            await bot.login(settings.token.get_secret_value())
        except discord.LoginFailure as error:
            raise StartupError(
                "Discord rejected the token in DISCORD_TOKEN: copy it again from "
                "https://discord.com/developers/applications, Bot, Reset Token"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise StartupError(
                f"Cannot reach Discord ({error}): check this machine's network"
            ) from error
        except discord.HTTPException as error:
            raise StartupError(f"Discord rejected the login or the commands: {error}") from error
        try:
            # After the first connection the library reconnects by itself.
            await bot.connect()
        except discord.ConnectionClosed as error:
            raise StartupError(f"Discord closed the connection for good: {error}") from error


def configure_logging(settings: Settings) -> None:
    """Log to stderr; below INFO only the bot, the model and Discord's library."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    logging.basicConfig(
        level=max(level, logging.INFO), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    for name in (EXTENSION, "noskgpt", "discord"):
        logging.getLogger(name).setLevel(level)
    # The bot sends text only, so it needs no voice libraries.
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run until done, or until SIGTERM or Ctrl-C cancels it, which is a clean end."""

    async def supervise() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        # Where a loop has no signal handlers (Windows), Ctrl-C raises KeyboardInterrupt.
        with suppress(NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task
            return
        log.info("Stopped")

    with suppress(KeyboardInterrupt):
        asyncio.run(supervise())


def main() -> None:
    """Run the command line; a startup error becomes one line and an exit code."""
    try:
        cli(prog_name=f"python -m {EXTENSION}")
    except StartupError as error:
        typer.echo(f"bard: {' '.join(str(error).split())}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
