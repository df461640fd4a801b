"""Measure how well replies keep to a scene: `python -m benchmarks.scene`.

Generates replies to three prompts with many seeds, at temperature 0.8 with real words, without and
with `cast` and `echo`. The last line of output is JSON.
"""

import argparse
import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import noskgpt
from noskgpt import scene
from noskgpt.corpus import load_corpus
from noskgpt.evaluation import evaluate

TEMPERATURE = 0.8
QUESTION = "JULIET:\nO Romeo, where are you?"
PIZZA = "I love pizza"
VOYAGE = "I would like to talk about the storm and the ship"
QUESTION_CHARS, PIZZA_CHARS, VOYAGE_CHARS = 600, 100, 300

_SPEAKER_LINE = re.compile(r"([A-Z][^\n:?!;]*):")
_VOYAGE_WORDS = re.compile(r"\b(storm|ship)\b", re.IGNORECASE)


def main() -> None:
    """Print a table with the options off and on, and a line of JSON."""
    parser = argparse.ArgumentParser(description="Measure how well replies keep to a scene.")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: the bundled weights")
    parser.add_argument("--seeds", type=int, default=200, help="number of replies to each prompt")
    arguments = parser.parse_args()
    bard = noskgpt.load(arguments.weights)
    results = {
        name: measure(bard, arguments.seeds, on=on) for name, on in (("off", False), ("on", True))
    }
    table = Table("", "off", "on", title=f"{bard.name}, {arguments.seeds} replies to each prompt")
    for row, off in results["off"].items():
        table.add_row(row, f"{off:g}", f"{results['on'][row]:g}")
    Console().print(table)
    print(json.dumps({"weights": bard.name, "seeds": arguments.seeds, **results}))


def measure(bard: noskgpt.Generator, seeds: int, *, on: bool) -> dict[str, float]:
    """Return the rows of the table with the options off or on."""
    generate = partial(bard.generate, temperature=TEMPERATURE, real_words=True, cast=on, echo=on)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:

        def replies(prompt: str, characters: int) -> list[str]:
            return list(
                threads.map(
                    lambda seed: generate(prompt, characters, seed=seed), range(1, seeds + 1)
                )
            )

        scenes = [speakers(reply) for reply in replies(QUESTION, QUESTION_CHARS)]
        pizzas = replies(PIZZA, PIZZA_CHARS)
        voyages = replies(VOYAGE, VOYAGE_CHARS)
    lovers = next(
        c for c in scene.build(load_corpus().plays).plays if "JULIET" in c and "ROMEO" in c
    )
    spoken = [name for names in scenes for name in names]
    return {
        "JULIET's question is first answered by ROMEO": sum(
            names[:1] == ["ROMEO"] for names in scenes
        ),
        "speeches in these replies": len(spoken),
        "of these, by people of other plays": sum(name not in lovers for name in spoken),
        "of these, by whoever has just spoken": sum(
            name == before
            for names in scenes
            for before, name in zip(["JULIET", *names], names, strict=False)
        ),
        "'I love pizza' continues the word": sum(
            text[0].isalpha() or text[0] in "'-" for text in pizzas
        ),
        "'pizza' occurs within 100 characters": sum(
            re.search(r"\bpizza\b", text, re.IGNORECASE) is not None for text in pizzas
        ),
        "storm or ship occurs within 300 characters": sum(
            _VOYAGE_WORDS.search(text) is not None for text in voyages
        ),
        "loss of the last replies, nats per character": round(
            loss(bard, [VOYAGE + text for text in voyages]), 4
        ),
    }


def speakers(reply: str) -> list[str]:
    """Return the speakers of a reply: names after a blank line, and names in capitals."""
    names: list[str] = []
    before = "words"
    for line in reply.split("\n"):
        match = _SPEAKER_LINE.fullmatch(line)
        if match and (not before.strip() or line.isupper()):
            names.append(match[1])
        before = line
    return names


def loss(bard: noskgpt.Generator, texts: list[str]) -> float:
    """Return the mean loss of the model itself, without the options, over texts."""
    results = [evaluate(bard.model, torch.tensor(bard.tokenizer.encode(text))) for text in texts]
    characters = sum(result.characters for result in results)
    return sum(result.loss * result.characters for result in results) / characters


if __name__ == "__main__":
    main()
