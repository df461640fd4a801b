"""The command line of the stand-alone bot: join Discord, or a simulated one."""

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

import discord
import typer

from noskgpt import commands
from noskgpt.resources import in_checkout

from .client import EXTENSION, BardClient, create_bot
from .config import Settings, load_standalone_settings
from .errors import StartupError
from .signals import InterruptedStartError, Signals, exit_on_signals
from .ui.interactions import NETWORK_ERRORS, brief

log = logging.getLogger(EXTENSION)

_SERVER_ERRORS = 500
"""The HTTP statuses from here on are errors of the server."""

cli = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The bard on Discord. Without a command: join Discord with the token in DISCORD_TOKEN.",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(commands.version())
        raise typer.Exit


@cli.callback(invoke_without_command=True)
def join(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - the callback ends the program
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
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
    run(lambda signals: _join(settings, signals))


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
    if not _has_stage():
        raise StartupError(f"The rehearsal stage is not installed: {_how_to_install_stage()}")
    from .rehearsal import rehearse  # noqa: PLC0415 - needs an optional dependency

    settings = load_standalone_settings()
    configure_logging(settings)
    run(
        lambda signals: rehearse(
            settings, port=port, channel=channel, say=typer.echo, signals=signals
        )
    )


def command(*arguments: str) -> str:
    """Return the command that runs the stand-alone bot; see `noskgpt.commands`."""
    return commands.command(EXTENSION, commands.DISTRIBUTION, *arguments)


def _tokenless() -> str:
    problem = "No DISCORD_TOKEN: put one into .env or the environment to join Discord"
    if not _has_stage():
        return problem
    return f"{problem}, or run `{command('rehearse')}` to try the bot on a simulated Discord"


def _has_stage() -> bool:
    return importlib.util.find_spec("simcord") is not None


def _how_to_install_stage() -> str:
    if in_checkout():
        return "run `make run` in the checkout"
    pip = commands.pip("install", "FOLDER[rehearsal]")
    return f"run `{pip}`, in which FOLDER is the checkout that the bot was installed from"


async def _join(settings: Settings, signals: Signals) -> None:
    if not settings.token:
        raise StartupError(_tokenless(), exit_code=2)
    async with create_bot(settings) as bot:
        signals.hasten = bot.hasten
        async with signals.interrupting():
            await _log_in(bot, settings.token.get_secret_value())
        connection = asyncio.create_task(bot.connect(), name="connection")
        await asyncio.wait({connection, signals.received}, return_when=asyncio.FIRST_COMPLETED)
        # The connection goes on until the requests in progress have ended: those that come
        # meanwhile are rejected with an explanation.
        await bot.close()
        connection.cancel()
        await asyncio.wait({connection})
        if not connection.cancelled():
            try:
                connection.result()
            except (discord.ConnectionClosed, discord.PrivilegedIntentsRequired) as error:
                raise StartupError(f"Discord closed the connection for good: {error}") from error


async def _log_in(bot: BardClient, token: str) -> None:
    # Before the login: a bot whose weights cannot be loaded need not join Discord.
    await bot.load_bard()
    try:
        await bot.login(token)
    except discord.LoginFailure as error:
        raise StartupError(
            "Discord rejected the token in DISCORD_TOKEN: copy it again from "
            "https://discord.com/developers/applications, Bot, Reset Token"
        ) from error
    except NETWORK_ERRORS as error:
        raise StartupError(
            f"Cannot reach Discord ({brief(error)}): check this machine's network"
        ) from error
    except discord.HTTPException as error:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= _SERVER_ERRORS:
            raise StartupError(
                f"Discord does not let the bot in at the moment ({brief(error)}): "
                "start it again in a few minutes"
            ) from error
        raise StartupError(f"Discord rejected the login or the commands: {brief(error)}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.debug("Could not read Discord's answer", exc_info=True)
        raise StartupError(
            "Cannot read Discord's answer to the login: is there a portal or a proxy between "
            "this machine and Discord?"
        ) from error


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


def run(work: Callable[[Signals], Coroutine[Any, Any, None]]) -> None:
    """Run until done or until a signal ends it, which is a clean end."""

    async def supervise() -> None:
        signals = Signals()
        with suppress(InterruptedStartError):
            await work(signals)
        if signals.received.done():
            log.info("Stopped")

    asyncio.run(supervise())


def main() -> None:
    """Run the command line; a startup error becomes one line and an exit code."""
    exit_on_signals()
    try:
        cli(prog_name=command())
    except StartupError as error:
        typer.echo(f"bard: {' '.join(str(error).split())}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
