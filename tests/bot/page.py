"""Run the rehearsal stage as a process, and use its page in a real browser."""

import asyncio
import re
import shutil
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Locator, Page, async_playwright, expect

from tests.bot.process import bot_process

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NO_CHROMIUM = "Chromium is not installed (Debian: apt-get install chromium)"

_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # Chromium has none for root, which CI uses
]


@asynccontextmanager
async def rehearsal(
    *arguments: str,
    weights: Path,
    port: int = 0,
    program: tuple[str, ...] = ("-m", "bot"),
    **environment: str,
) -> AsyncIterator[str]:
    """Run the rehearsal stage as a process and yield the address of its page.

    The process is killed at the end, as by `kill -9`.
    """
    command = (*program, "rehearse", "--port", f"{port}", *arguments)
    async with bot_process(*command, weights=weights, **environment) as process:
        yield await address_of(process)


async def address_of(process: Process) -> str:
    """Wait until a rehearsal stage serves its page; return the page's address."""
    assert process.stdout is not None
    output = ""
    async with asyncio.timeout(120):
        while not output.endswith("Ctrl-C ends this.\n"):
            line = await process.stdout.readline()
            assert line, f"the stage ended during startup, after the output {output!r}"
            output += line.decode()
    address = re.search(r"^Open (\S+)$", output, re.MULTILINE)
    assert address is not None
    return address[1]


@asynccontextmanager
async def browser_page(
    address: str, *, width: int = 1200, height: int = 800
) -> AsyncIterator[Page]:
    """Open an address in Chromium; width and height are in CSS pixels."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        page = await browser.new_page(viewport={"width": width, "height": height})
        await page.goto(address)
        try:
            yield page
        finally:
            await browser.close()


async def show(page: Page, channel: str) -> None:
    """Change to another channel, or to the direct messages `@Bard as ...`."""
    room = channel if channel.startswith("@") else f"#{channel}"
    await page.get_by_role("button", name=room, exact=True).click()
    await expect(page).to_have_title(re.compile(f"^{re.escape(room)} "), timeout=30_000)
    await expect(page.locator("#channel-name")).not_to_be_empty(timeout=30_000)


async def view_as(page: Page, member: str) -> None:
    """Act as another member; return when the page shows the channel to them."""
    picker = page.locator("#viewer-picker")
    member_id = await picker.locator("option", has_text=member).get_attribute("value")
    assert member_id
    await picker.select_option(member_id)
    seen_by = re.compile(member_id)
    await expect(messages(page).last).to_have_attribute("data-media-reuse-scope", seen_by)


def messages(page: Page) -> Locator:
    """Return the messages of the channel, oldest first."""
    return page.locator("#channel-message-list .channel-message")


async def press(message: Locator, label: str) -> None:
    """Press a button of a message once."""
    of_the_message = message.page.locator(".component-button")
    await message.get_by_role("button", name=label, exact=True).and_(of_the_message).click()


async def slash(page: Page, command: str, *first_option: str, **optional: str) -> None:
    """Type a command, its first option if that is required, and others by name; send it."""
    await page.locator("#channel-composer-input").click()
    await page.keyboard.type(f"/{command}")
    await page.locator(".command-popup").get_by_text(f"/{command}", exact=True).first.wait_for()
    await page.keyboard.press("Enter")
    for value in first_option:
        await page.locator("input.command-option-input").first.wait_for()
        await page.keyboard.type(value)
    for name, value in optional.items():
        await option(page, name)
        await page.keyboard.type(value)
        choice = page.locator(".command-suggestion", has_text=value)
        if await choice.count():
            await choice.first.click()
    await page.locator("#send-message").click()
    await expect(page.locator(".command-row")).to_have_count(0, timeout=30_000)


async def option(page: Page, name: str) -> None:
    """Add an option to the command that is being typed."""
    suggestion = page.locator(f'.command-suggestion[data-value="{name}"]')
    if not await suggestion.is_visible():
        await page.locator(".command-ghost").click()
    await suggestion.click()
    await page.locator(f'input.command-option-input[data-option="{name}"]').wait_for()
