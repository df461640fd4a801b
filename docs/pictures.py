"""Take the README's pictures of the rehearsal stage: `make pictures`.

The replies are drawn anew, so each run shows other words; one trains a model for two minutes.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from playwright.async_api import Page, expect

from noskgpt.resources import weights_path
from tests.bot import page as stage

DOCS = Path(__file__).resolve().parent
MINUTES = 2


async def main() -> None:
    """Play on a stage of its own and photograph the page as it goes on."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        async with stage.rehearsal(weights=weights_path(), BARD_MAX_CHARS="250") as address:
            async with stage.browser_page(address, width=1100, height=760) as page:
                await talk(page)
            # High enough for the whole message: what the page scrolls away is not in a picture.
            async with stage.browser_page(address, width=1100, height=1500) as page:
                await learn(page)


async def talk(page: Page) -> None:
    """Photograph replies, another take of the last, and the scene they make."""
    for number, prompt in enumerate(("ROMEO:", "O gentle night, that"), start=1):
        await stage.slash(page, "bard", prompt)
        await expect(stage.messages(page)).to_have_count(number, timeout=30_000)
        await expect(stage.messages(page).last).to_contain_text("characters")
    await page.screenshot(path=DOCS / "stage.png")

    await stage.press(stage.messages(page).last, "Reroll")
    await expect(stage.messages(page).last).to_contain_text("Take 2 of 2")
    await page.mouse.move(0, 0)
    await stage.messages(page).last.screenshot(path=DOCS / "reply.png")

    await stage.slash(page, "scene show")
    await expect(stage.messages(page).last).to_contain_text("Page 1 of 1")
    await stage.messages(page).last.screenshot(path=DOCS / "scene.png")


async def learn(page: Page) -> None:
    """Photograph a finished run, and see that its weights speak once promoted."""
    await stage.slash(page, "train start", f"{MINUTES:g}")
    shown = stage.messages(page).last
    await expect(shown).to_contain_text("Latest sample", timeout=60_000 * MINUTES)
    await expect(shown).to_contain_text("finished", timeout=60_000 * (MINUTES + 1))
    await expect(shown.get_by_role("img", name="A chart of")).to_be_visible()
    await page.mouse.move(0, 0)
    await shown.screenshot(path=DOCS / "learnt.png")
    await stage.press(shown, "Promote")
    await expect(shown).to_contain_text("Promoted", timeout=30_000)
    await stage.slash(page, "bard", "PORTIA:")
    await expect(stage.messages(page).last).to_contain_text("characters", timeout=30_000)


if __name__ == "__main__":
    asyncio.run(main())
