"""Take the pictures of the documentation on the rehearsal stage: `make pictures`.

The first replies have fixed seeds, and are the same in each call as long as the weights are. The
second take has a random one. It trains a model for two minutes.
"""

import asyncio
import io
import os
import tempfile
from pathlib import Path

from PIL import Image
from playwright.async_api import FloatRect, Locator, Page, expect

from noskgpt.resources import weights_path
from tests.bot import page as stage

DOCS = Path(__file__).resolve().parent
MINUTES = 2
COLORS = 96
"""Colors of a picture. Discord's page has few, and the file is a third as large."""
CONVERSATION = {"JULIET: O Romeo, where are you?": "11", "I dreamt of a storm and a ship": "14"}
"""Prompts, and the seeds of their replies."""
SEEDS = range(1, 100)


async def main() -> None:
    """Run the rehearsal stage in a temporary folder and take all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # As a server has them that has changed nothing.
        async with (
            stage.rehearsal(weights=weights_path(), BARD_COOLDOWN="3") as address,
            stage.browser_page(address, width=1100, height=1000) as page,
        ):
            await picture_settings(page)
        async with stage.rehearsal(weights=weights_path(), BARD_MAX_CHARS="250") as address:
            async with stage.browser_page(address, width=1100, height=1000) as page:
                await picture_conversation(page)
                await picture_form(page)
                await stage.show(page, "tavern")
                await picture_party(page)
                await stage.view_as(page, "prospero")
                await stage.show(page, "stage")
            # High enough for the whole message: a screenshot lacks what is scrolled out of view.
            async with stage.browser_page(address, width=1100, height=1500) as page:
                await picture_training(page)


async def save(name: str, page: Page, *shown: Locator) -> None:
    """Save a picture of the part of a page that has some elements, of which one is the last."""
    # Neither a pointer nor the focus marks a message.
    await page.mouse.move(0, 0)
    await page.evaluate("document.activeElement.blur()")
    boxes = [await element.bounding_box() for element in shown]
    first, last = boxes[0], boxes[-1]
    assert first is not None
    assert last is not None
    height = last["y"] + last["height"] - first["y"]
    clip = FloatRect(x=first["x"], y=first["y"], width=first["width"], height=height)
    image = Image.open(io.BytesIO(await page.screenshot(clip=clip))).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(DOCS / name, optimize=True)


async def picture_conversation(page: Page) -> None:
    """Take pictures of a conversation, and of a reply with two takes."""
    messages = stage.messages(page)
    for number, (prompt, seed) in enumerate(CONVERSATION.items(), start=1):
        await stage.slash(page, "bard", prompt, seed=seed)
        await expect(messages).to_have_count(number, timeout=30_000)
        await expect(messages.last).to_contain_text("characters")
    await save("conversation.png", page, messages.first, messages.last)
    await stage.press(messages.last, "Reroll")
    await expect(messages.last).to_contain_text("Take 2 of 2")
    await save("reply.png", page, messages.last)


async def picture_form(page: Page) -> None:
    """Take a picture of the form of *Edit prompt*."""
    await stage.press(stage.messages(page).last, "Edit prompt")
    form = page.get_by_role("dialog", name="Edit the prompt")
    await expect(form).to_be_visible()
    await save("edit.png", page, form)
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await expect(form).to_have_count(0)


async def picture_settings(page: Page) -> None:
    """Take a picture of the settings of a server."""
    await stage.slash(page, "bard-settings")
    settings = stage.messages(page).last
    await expect(settings).to_contain_text("Cooldown", timeout=30_000)
    await save("settings.png", page, settings)


async def picture_party(page: Page) -> None:
    """Take a picture of a scene in which the bard waits for the line of a part."""
    await stage.slash(page, "scene join", "ROMEO")
    await expect(stage.messages(page).last).to_contain_text("ROMEO")
    await stage.view_as(page, "miranda")
    await stage.slash(page, "scene join", "JULIET")
    await expect(stage.messages(page).last).to_contain_text("JULIET")
    for seed in SEEDS:
        count = await stage.messages(page).count()
        await stage.slash(page, "bard", "Good Nurse, what says he of our marriage?", seed=f"{seed}")
        await expect(stage.messages(page)).to_have_count(count + 1)
        reply = stage.messages(page).last
        await expect(reply).to_contain_text("characters", timeout=30_000)
        if "ROMEO, your line" in await reply.inner_text():
            break
    await save("party.png", page, stage.messages(page).last)


async def picture_training(page: Page) -> None:
    """Take a picture of a finished run, and check that its weights reply after their promotion."""
    await stage.slash(page, "train start", minutes=f"{MINUTES:g}")
    status = stage.messages(page).last
    await expect(status).to_contain_text("Latest sample", timeout=60_000 * MINUTES)
    await expect(status).to_contain_text("finished", timeout=60_000 * (MINUTES + 1))
    await expect(status.get_by_role("img", name="A chart of")).to_be_visible()
    await save("learnt.png", page, status)
    await stage.press(status, "Promote")
    await expect(status).to_contain_text("Promoted", timeout=30_000)
    await stage.slash(page, "bard", "PORTIA:")
    await expect(stage.messages(page).last).to_contain_text("characters", timeout=30_000)


if __name__ == "__main__":
    asyncio.run(main())
