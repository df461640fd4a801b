"""The command line of the stand-alone bot: join Discord, or a simulated one."""

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import discord
import typer

from noskgpt import commands
from noskgpt.resources import in_checkout

from .client import EXTENSION, BardClient, create_bot
from .config import Settings, load_standalone_settings
from .errors import StartupError
from .hosting import backup as hosting
from .hosting import logs
from .hosting.alive import answering, check_alive
from .hosting.health import Health
from .hosting.login import TOKEN_REJECTED, log_in
from .signals import InterruptedStartError, Signals, exit_on_signals, fail_on_signals

log = logging.getLogger(EXTENSION)

_AUTHENTICATION_FAILED = 4004
"""Code with which Discord closes a connection whose token it does not accept."""

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
        if context.invoked_subcommand != "rehearse":  # the others end by themselves
            fail_on_signals()
        return
    settings = load_standalone_settings()
    if or_rehearse and not settings.token:
        rehearse()
        return
    logs.configure(settings)
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
    logs.configure(settings)
    run(
        lambda signals: rehearse(
            settings, port=port, channel=channel, say=typer.echo, signals=signals
        )
    )


@cli.command()
def check(
    *,
    alive: Annotated[
        bool,
        typer.Option("--alive", help="Only ask the running bot whether it is connected and works."),
    ] = False,
) -> None:
    """Check settings, files, model and token, and say what to do. Changes nothing."""
    if not alive:
        from rich.console import Console  # noqa: PLC0415 - with the model, not needed to join

        from .hosting.check import check as check_bot  # noqa: PLC0415

        raise typer.Exit(check_bot(Console()))
    try:
        well, line = check_alive(load_standalone_settings())
    except StartupError as error:
        well, line = False, f"Not alive: {error}"
    typer.echo(line)
    raise typer.Exit(0 if well else 1)


@cli.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Save the database as FILE, also while the bot is running."""
    hosting.backup(load_standalone_settings().database_path, file, force=force, say=typer.echo)


@cli.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.", show_default=False)],
) -> None:
    """Replace the database by the backup FILE. The bot has to be stopped."""
    settings = load_standalone_settings()
    hosting.restore(file, settings.database_path, settings.runs_path, say=typer.echo)


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
    async with _serve_http(settings) as bot, bot:
        signals.hasten = bot.hasten
        async with signals.interrupting():
            # Before the login: a bot whose weights cannot be loaded need not join Discord.
            await bot.load_bard()
        async with answering(settings.database_path, Health(bot)):
            async with signals.interrupting():
                await log_in(bot, settings.token.get_secret_value())
            await _stay_connected(bot, signals)


@asynccontextmanager
async def _serve_http(settings: Settings) -> AsyncIterator[BardClient]:
    """Yield a bot, whose health and metrics are served meanwhile if there is a port for that.

    Raises:
        StartupError: The port cannot be used.
    """
    if settings.http_port is None:
        yield create_bot(settings)
        return
    # Not earlier: a bot without the server does without these modules.
    from .hosting.metrics import Metrics  # noqa: PLC0415
    from .hosting.web import serving  # noqa: PLC0415

    metrics = Metrics()
    metrics.add_process()
    bot = create_bot(settings, metrics)
    metrics.watch_connection(lambda: bot.connected)
    async with serving(settings.http_host, settings.http_port, Health(bot), metrics):
        yield bot


async def _stay_connected(bot: BardClient, signals: Signals) -> None:
    """Answer requests until a signal comes, or Discord closes the connection for good."""
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
            if getattr(error, "code", None) == _AUTHENTICATION_FAILED:
                raise StartupError(TOKEN_REJECTED) from error
            raise StartupError(f"Discord closed the connection for good: {error}") from error


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
        for handler in logging.getLogger().handlers:
            handler.flush()  # the line is the last one
        typer.echo(f"bard: {' '.join(str(error).split())}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
