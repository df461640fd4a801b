"""Take the pictures of the documentation on the rehearsal stage: `make pictures`.

The replies have random seeds, so they differ from call to call. It trains a model for two minutes.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from playwright.async_api import FloatRect, Page, expect

from noskgpt.resources import weights_path
from tests.bot import page as stage

DOCS = Path(__file__).resolve().parent
MINUTES = 2


async def main() -> None:
    """Run the rehearsal stage in a temporary folder and take all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        async with stage.rehearsal(weights=weights_path(), BARD_MAX_CHARS="250") as address:
            async with stage.browser_page(address, width=1100, height=1000) as page:
                await picture_conversation(page)
            # High enough for the whole message: a screenshot lacks what is scrolled out of view.
            async with stage.browser_page(address, width=1100, height=1500) as page:
                await picture_training(page)


async def picture_conversation(page: Page) -> None:
    """Take pictures of a conversation, and of a reply with two takes."""
    prompts = ("JULIET: O Romeo, where are you?", "I dreamt of a storm and a ship")
    for number, prompt in enumerate(prompts, start=1):
        await stage.slash(page, "bard", prompt)
        await expect(stage.messages(page)).to_have_count(number, timeout=30_000)
        await expect(stage.messages(page).last).to_contain_text("characters")
    await page.mouse.move(0, 0)
    first = await stage.messages(page).first.bounding_box()
    last = await stage.messages(page).last.bounding_box()
    assert first is not None
    assert last is not None
    conversation = FloatRect(
        x=first["x"],
        y=first["y"],
        width=first["width"],
        height=last["y"] + last["height"] - first["y"],
    )
    await page.screenshot(path=DOCS / "conversation.png", clip=conversation)

    await stage.press(stage.messages(page).last, "Reroll")
    await expect(stage.messages(page).last).to_contain_text("Take 2 of 2")
    await page.mouse.move(0, 0)
    await stage.messages(page).last.screenshot(path=DOCS / "reply.png")


async def picture_training(page: Page) -> None:
    """Take a picture of a finished run, and check that its weights reply after their promotion."""
    await stage.slash(page, "train start", minutes=f"{MINUTES:g}")
    status = stage.messages(page).last
    await expect(status).to_contain_text("Latest sample", timeout=60_000 * MINUTES)
    await expect(status).to_contain_text("finished", timeout=60_000 * (MINUTES + 1))
    await expect(status.get_by_role("img", name="A chart of")).to_be_visible()
    await page.mouse.move(0, 0)
    await status.screenshot(path=DOCS / "learnt.png")
    await stage.press(status, "Promote")
    await expect(status).to_contain_text("Promoted", timeout=30_000)
    await stage.slash(page, "bard", "PORTIA:")
    await expect(stage.messages(page).last).to_contain_text("characters", timeout=30_000)


if __name__ == "__main__":
    asyncio.run(main())
