"""Take the README's pictures of the rehearsal stage: `make pictures`.

The replies are drawn anew, so each run shows other words.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from playwright.async_api import expect

from noskgpt.resources import weights_path
from tests.bot import page as stage

DOCS = Path(__file__).resolve().parent


async def main() -> None:
    """Play two short turns on a stage of its own and photograph the page as it goes on."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        async with (
            stage.rehearsal(weights=weights_path(), BARD_MAX_CHARS="250") as address,
            stage.browser_page(address, width=1100, height=760) as page,
        ):
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


if __name__ == "__main__":
    asyncio.run(main())
