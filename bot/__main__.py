"""`python -m bot`: join Discord; `python -m bot rehearse`: play on a simulated one."""

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

from . import Settings, StartupError, create_bot, load_settings

log = logging.getLogger("bot")

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
    settings = load_settings()
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
    """Play on a simulated Discord, shown as a page on this machine. Needs no token."""
    if importlib.util.find_spec("simcord") is None:
        raise StartupError(
            "The rehearsal stage is not installed: pip install 'noskgpt-bard[rehearsal]'"
        )
    from .rehearsal import rehearse  # noqa: PLC0415 - of an extra that may be missing

    settings = load_settings()
    configure_logging(settings)
    run(rehearse(settings, port=port, channel=channel, say=typer.echo))


async def _join(settings: Settings) -> None:
    if not settings.token:
        raise StartupError(TOKENLESS, exit_code=2)
    async with create_bot(settings) as bot:
        try:
            await bot.login(settings.token.get_secret_value())
        except discord.LoginFailure as error:
            raise StartupError(
                "Discord refused the token in DISCORD_TOKEN: copy it anew from "
                "https://discord.com/developers/applications, Bot, Reset Token"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise StartupError(
                f"Cannot reach Discord ({error}): check this machine's network"
            ) from error
        except discord.HTTPException as error:
            raise StartupError(f"Discord would not let the bot in: {error}") from error
        try:
            # From here on the library reconnects by itself.
            await bot.connect()
        except discord.ConnectionClosed as error:
            raise StartupError(f"Discord closed the connection for good: {error}") from error


def configure_logging(settings: Settings) -> None:
    """Log to stderr; below INFO only the bot and Discord's library, others are too talkative."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    logging.basicConfig(
        level=max(level, logging.INFO), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    for name in ("bot", "noskgpt", "discord"):
        logging.getLogger(name).setLevel(level)
    # The bard speaks in writing: voice libraries are not missed.
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run until done or told to stop by SIGTERM or Ctrl-C, which is a clean end."""

    async def supervise() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        # Where a loop cannot take signals (Windows), Ctrl-C still raises KeyboardInterrupt.
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
    """Run the command line; what keeps the bot from starting becomes one line."""
    try:
        cli(prog_name="python -m bot")
    except StartupError as error:
        typer.echo(f"bard: {' '.join(str(error).split())}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
