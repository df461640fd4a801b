"""The rehearsal stage as a new user tries it: one process and one browser for all tests here."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, chdir
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.bot import page as stage

pytestmark = [
    pytest.mark.skipif(stage.CHROMIUM is None and "CI" not in os.environ, reason=stage.NO_CHROMIUM),
    pytest.mark.asyncio(loop_scope="module"),
]

REPLIED = re.compile(r"\d characters · ")
AT_THE_END = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 2"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    """A tab that shows #stage."""
    folder = tmp_path_factory.mktemp("stage")
    data = str(folder / "data")
    async with AsyncExitStack() as stack:
        running = stage.rehearsal(weights=weights, XDG_DATA_HOME=data)
        with chdir(folder):
            address = await stack.enter_async_context(running)
        page = await stack.enter_async_context(stage.browser_page(address))
        await type_line(page, "/bard ROMEO:")
        await expect(stage.messages(page).last).to_contain_text(REPLIED, timeout=30_000)
        yield page


async def type_line(page: Page, line: str) -> None:
    # The page empties its line when the last command has been sent.
    await expect(page.locator(".command-row")).to_have_count(0, timeout=30_000)
    await page.locator("#channel-composer-input").click()
    await page.keyboard.type(line)
    await page.keyboard.press("Enter")


@asynccontextmanager
async def second_tab(page: Page) -> AsyncIterator[Page]:
    browser = page.context.browser
    assert browser is not None
    other = await browser.new_page()
    await other.goto(page.url)
    yield other
    await other.context.close()


class Held:
    """Holds the first request of a tab to a path until `release`; later ones pass."""

    def __init__(self, page: Page, path: str, containing: str = "") -> None:
        self._page = page
        self._path = f"**{path}"
        self._containing = containing
        self._route: Route | None = None
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._page.route(self._path, self._hold)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._page.unroute(self._path)

    async def _hold(self, route: Route) -> None:
        if self._route is None and self._containing in (route.request.post_data or ""):
            self._route = route
            self._arrived.set()
        else:
            await route.continue_()

    async def arrived(self) -> None:
        await asyncio.wait_for(self._arrived.wait(), 30)

    async def release(self) -> None:
        assert self._route is not None
        await self._route.continue_()


async def test_command_without_its_option_says_what_is_wanted(tab: Page) -> None:
    count = await stage.messages(tab).count()
    await type_line(tab, "/bard")
    await expect(tab.locator(".command-context")).to_contain_text("A speaker, such as ROMEO:")
    await tab.keyboard.press("Enter")
    await expect(tab.locator(".command-error")).to_have_text("This field is required.")
    await tab.keyboard.type("JULIET:")
    await tab.locator("#send-message").click()
    await expect(stage.messages(tab)).to_have_count(count + 1, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("JULIET:")


async def test_command_is_typed_in_one_line(tab: Page) -> None:
    await type_line(tab, "/bard NURSE: Anon")
    await expect(stage.messages(tab).last).to_contain_text("NURSE: Anon", timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("prospero asks the bard")


async def test_menu_of_a_message_continues_it(tab: Page) -> None:
    count = await stage.messages(tab).count()
    await stage.messages(tab).last.click(button="right")
    await tab.get_by_role("menuitem", name="Continue as Shakespeare").click()
    await expect(stage.messages(tab)).to_have_count(count + 1, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text(REPLIED, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("Continue as Shakespeare")


async def test_press_on_a_page_that_was_updated_meanwhile(tab: Page) -> None:
    message = stage.messages(tab).first
    async with second_tab(tab) as other, Held(tab, "/api/state") as held:
        await held.arrived()
        await type_line(other, "/bard TYBALT:")
        await expect(stage.messages(other).last).to_contain_text("TYBALT:", timeout=30_000)
        await expect(stage.messages(tab).last).not_to_contain_text("TYBALT:")
        await stage.press(message, "Reroll")
        await expect(message).to_contain_text("Take 2 of 2", timeout=30_000)


@pytest.mark.parametrize("key", ["Enter", None])
async def test_sending_waits_for_the_suggestions(tab: Page, key: str | None) -> None:
    count = await stage.messages(tab).count()
    async with Held(tab, "/api/action", "autocomplete_command") as held:
        await tab.locator("#channel-composer-input").click()
        await tab.keyboard.type("/bard HAMLET: Ay me")
        await held.arrived()
        if key:
            await tab.keyboard.press(key)
        else:
            await tab.locator("#send-message").click(force=True)
        await held.release()
        await expect(stage.messages(tab)).to_have_count(count + 1, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("HAMLET: Ay me")


async def test_button_waits_for_an_earlier_press(tab: Page) -> None:
    count = await stage.messages(tab).count()
    first, last = stage.messages(tab).first, stage.messages(tab).last
    async with Held(tab, "/api/action", '"click"') as held:
        await stage.press(first, "Reroll")
        await held.arrived()
        # Without Playwright's wait for a button that is enabled: a person does not wait.
        await last.get_by_role("button", name="Continue", exact=True).click(force=True)
        await held.release()
        await expect(stage.messages(tab)).to_have_count(count + 1, timeout=30_000)
    await expect(first).to_contain_text("Take 3 of 3", timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("and then?", timeout=30_000)


async def test_second_press_of_a_button_that_waits_is_none(tab: Page) -> None:
    count = await stage.messages(tab).count()
    button = stage.messages(tab).last.get_by_role("button", name="Continue", exact=True)
    async with Held(tab, "/api/action", '"click"') as held:
        await button.click()
        await held.arrived()
        await button.click(force=True)
        await held.release()
        await expect(stage.messages(tab)).to_have_count(count + 1, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text(REPLIED, timeout=30_000)
    await type_line(tab, "/bard NURSE: Anon")
    await expect(stage.messages(tab).last).to_contain_text("NURSE: Anon", timeout=30_000)
    await expect(stage.messages(tab)).to_have_count(count + 2)


async def test_form_begins_with_its_text_and_keeps_it(tab: Page) -> None:
    message = stage.messages(tab).last
    await stage.press(message, "Edit prompt")
    text = tab.get_by_role("dialog", name="Edit the prompt").get_by_role("textbox")
    await expect(text).to_have_value("NURSE: Anon")
    await expect(text).to_be_focused()
    await tab.keyboard.type(", sweet")
    async with second_tab(tab) as other:
        await type_line(other, "/bard CHORUS: meanwhile")
        await expect(stage.messages(tab).last).to_contain_text("meanwhile", timeout=30_000)
        await tab.keyboard.type(" lady")
        await expect(text).to_have_value("NURSE: Anon, sweet lady")
        await tab.get_by_role("button", name="Submit").click()
    edited = stage.messages(tab).filter(has_text="NURSE: Anon, sweet lady")
    await expect(edited).to_contain_text("Take 2 of 2", timeout=30_000)


async def test_typing_goes_on_while_a_command_is_sent(tab: Page) -> None:
    count = await stage.messages(tab).count()
    async with Held(tab, "/api/action", '"run_command"') as held:
        await type_line(tab, "/bard PORTIA: one")
        await held.arrived()
        # No click, and no wait: SimCord's fields accept no key now.
        await tab.keyboard.type("/bard PORTIA: twoo")
        await tab.keyboard.press("Backspace")
        await tab.keyboard.press("Enter")
        await tab.keyboard.type("What ho")
        await held.release()
        await expect(stage.messages(tab)).to_have_count(count + 2, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("PORTIA: two", timeout=30_000)
    await expect(stage.messages(tab).last).not_to_contain_text("PORTIA: twoo")
    line = tab.locator("#channel-composer-input")
    await expect(line).to_have_value("What ho")
    await expect(line).to_be_focused()
    await tab.keyboard.press("Control+A")
    await tab.keyboard.press("Backspace")


async def test_draft_is_kept_when_the_page_is_drawn_again(tab: Page) -> None:
    async with Held(tab, "/api/action", "autocomplete_command") as held:
        await tab.keyboard.type("/bard CHORUS: Oh for a muse")
        await held.arrived()
        await tab.locator(".command-ghost").dispatch_event("click")
        await held.release()
        await stage.option(tab, "seed")
    await tab.keyboard.type("17")
    prompt, seed = (
        tab.locator(f'input.command-option-input[data-option="{name}"]')
        for name in ("prompt", "seed")
    )
    await prompt.click()
    await tab.keyboard.press("Home")
    for _ in "CHORUS: O":
        await tab.keyboard.press("ArrowRight")
    await tab.keyboard.press("Delete")

    async def kept() -> None:
        await expect(prompt).to_have_value("CHORUS: O for a muse")
        await expect(seed).to_have_value("17")

    # Another message, another member, and another channel, there and back in another tab.
    row = tab.locator("#message-picker .message-row").last
    await row.click()
    await expect(row).to_have_attribute("aria-current", "page")
    await kept()
    await prompt.click()
    await stage.view_as(tab, "miranda")
    await kept()
    await prompt.click()
    await tab.keyboard.press("End")
    await tab.keyboard.press("ArrowLeft")
    async with second_tab(tab) as other:
        await stage.show(other, "tavern")
        await expect(tab.locator("#channel-name")).to_have_text("tavern", timeout=30_000)
        await expect(tab.locator("#channel-composer-input")).to_have_value("")
        await tab.keyboard.type("Sack!")
        await stage.show(other, "stage")
        await expect(tab.locator("#channel-name")).to_have_text("stage", timeout=30_000)
        await kept()
        await tab.keyboard.type("x")  # at the place of the caret
        await expect(prompt).to_have_value("CHORUS: O for a musxe")
        await stage.show(other, "tavern")
        await expect(tab.locator("#channel-composer-input")).to_have_value("Sack!")
        await tab.keyboard.press("Control+A")
        await tab.keyboard.press("Backspace")
        await stage.show(other, "stage")
    await expect(seed).to_have_value("17", timeout=30_000)
    await tab.get_by_role("button", name="Exit command mode").click()
    await tab.keyboard.press("Control+A")
    await tab.keyboard.press("Backspace")


async def test_page_follows_new_messages_unless_it_was_scrolled_back(tab: Page) -> None:
    timeline = tab.locator("#channel-timeline")
    async with second_tab(tab) as other:
        for number in ("one", "two", "three"):
            await type_line(other, f"/bard CHORUS: {number}")
            await expect(stage.messages(tab).last).to_contain_text(number, timeout=30_000)
            await expect(stage.messages(tab).last).to_contain_text(REPLIED)
        await expect(stage.messages(tab).last.get_by_role("button").first).to_be_in_viewport()
        assert await timeline.evaluate(AT_THE_END)
        await timeline.hover()
        await tab.mouse.wheel(0, -400)
        await tab.wait_for_function(
            "box => box.scrollHeight - box.scrollTop - box.clientHeight > 300",
            arg=await timeline.element_handle(),
        )
        await type_line(other, "/bard CHORUS: four")
        await expect(stage.messages(tab).last).to_contain_text("four", timeout=30_000)
        assert not await timeline.evaluate(AT_THE_END)
    await expect(tab.locator("#new-messages")).to_be_visible()
    await tab.locator("#new-messages").click()
    await tab.wait_for_function(AT_THE_END, arg=await timeline.element_handle())


async def test_all_channels_as_both_members_in_every_tab(tab: Page) -> None:
    async with second_tab(tab) as other:
        await stage.view_as(tab, "miranda")
        await stage.show(tab, "tavern")
        await expect(other.locator("#channel-name")).to_have_text("tavern", timeout=30_000)
        await expect(stage.messages(tab)).to_have_count(0)
        await type_line(tab, "/bard FALSTAFF:")
        await expect(stage.messages(other).last).to_contain_text("miranda asks", timeout=30_000)
        await stage.show(other, "stage")
        await expect(tab.locator("#channel-name")).to_have_text("stage", timeout=30_000)
        await expect(stage.messages(tab).first).to_contain_text("ROMEO:")
    assert tab.url.count("/") == 3, "the address has a secret or a channel"
    assert "#" not in tab.url


async def test_each_member_has_direct_messages(tab: Page) -> None:
    await stage.show(tab, "@Bard as miranda")
    await tab.keyboard.type("O gentle night")
    await tab.keyboard.press("Enter")
    await expect(stage.messages(tab).last).to_contain_text(REPLIED, timeout=30_000)
    await expect(stage.messages(tab).last).to_contain_text("miranda asks the bard")
    await type_line(tab, "/bard NURSE: Anon")
    await expect(stage.messages(tab).last).to_contain_text("NURSE: Anon", timeout=30_000)
    # SimCord has no menu of a message there.
    await stage.messages(tab).last.click(button="right")
    await expect(tab.get_by_role("menu", name="Apps")).to_have_count(0)
    await stage.show(tab, "@Bard as prospero")
    await expect(stage.messages(tab)).to_have_count(0)
    await stage.show(tab, "stage")


async def test_keys_wait_for_the_page_of_another_channel(tab: Page) -> None:
    async with Held(tab, "/rehearsal/show") as asked, Held(tab, "/api/pages") as loading:
        await tab.get_by_role("button", name="#tavern", exact=True).click()
        await asked.arrived()
        await tab.keyboard.type("/bard FAL")
        await asked.release()
        await loading.arrived()
        await tab.keyboard.type("STAFF: Sack")
        await tab.keyboard.press("Enter")
        await loading.release()
        await expect(tab.locator("#channel-name")).to_have_text("tavern", timeout=30_000)
        await expect(stage.messages(tab).last).to_contain_text("FALSTAFF: Sack", timeout=30_000)
    await stage.show(tab, "stage")
    # Nothing is loaded for the channel that is shown.
    await tab.evaluate("document.body.dataset.loaded = 'once'")
    await stage.show(tab, "stage")
    await expect(tab.locator("body")).to_have_attribute("data-loaded", "once")


async def test_other_sites_and_names_are_rejected(tab: Page) -> None:
    for headers in ({"Origin": "http://example.com"}, {"Host": "example.com"}):
        answer = await tab.request.get(tab.url, headers=headers)
        assert answer.status == 403
    answer = await tab.request.post(f"{tab.url}rehearsal/show", data={"room": "#tavern"})
    assert answer.status == 401
