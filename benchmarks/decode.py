"""Measure decoding speed in characters per second: `python -m benchmarks.decode`.

Compares, in one run: full recomputation as in the reference, PyTorch with cached keys and values,
a plain C program (`reference.c`, skipped if there is no compiler), and the compiled decoder with
one and several streams. The last line of output is JSON.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import noskgpt
from noskgpt.corpus import load_corpus
from noskgpt.inference import kernels
from noskgpt.inference.decoder import Cancellation, CompiledDecoder, CompiledSession, Request
from noskgpt.inference.generator import KEPT_FRACTION
from noskgpt.inference.sampling import draw
from tests.noskgpt.reference import Reference

CHARACTERS = 4000
ROUNDS = 3
PROMPT = "ROMEO:\n"
SCENE = "ROMEO:\nI dream of a dragon, a castle, a storm and a ship"


def main() -> None:
    """Run all measurements; print a table, the bounds, and a line of JSON."""
    bard, eager = noskgpt.load(), noskgpt.load(fast=False)
    bard.generate(PROMPT, 300, real_words=True, cast=True)
    rates: dict[str, float] = {}

    recompute = recomputation()
    rates["full recomputation, PyTorch, all threads"] = best(recompute, 60)
    rates["keys and values cached, PyTorch"] = best(lambda: len(eager.generate(PROMPT, 500)), 1)
    with tempfile.TemporaryDirectory() as folder:
        program = compile_c(bard, Path(folder))
        decoder_rates, c_rates = [], []
        for _ in range(ROUNDS):  # alternating, so that other load affects both
            if program is not None:
                c_rates.append(run_c(program, CHARACTERS, PROMPT, bard))
            decoder_rates.append(streams(bard, 1))
        if program is not None:
            rates["C program, 1 thread"] = max(c_rates)
    rates["this decoder, 1 stream"] = max(decoder_rates)
    for count in (4, 16):
        rates[f"this decoder, {count} streams"] = max(streams(bard, count) for _ in range(2))
    options = {"real words": (False, PROMPT), "real words, cast, echo": (True, SCENE)}
    for _ in range(ROUNDS):  # alternating, as above
        for name, (on, prompt) in options.items():
            rate = best(
                lambda prompt=prompt, on=on: len(  # type: ignore[misc]
                    bard.generate(prompt, CHARACTERS, seed=1, real_words=True, cast=on, echo=on)
                ),
                1,
            )
            name = f"this decoder, 1 stream, {name}"  # noqa: PLW2901
            rates[name] = max(rate, rates.get(name, 0))
    rates["prefill of 256: upper bound for a batch of 4"] = prefill_rate(bard)

    base = rates["full recomputation, PyTorch, all threads"]
    table = Table("", "characters/s", "times the first", title=f"{bard.name}")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / base:.1f}")
    Console().print(table)

    active = active_fraction(bard)
    weights = weight_bytes(bard, active)
    more: dict[str, Any] = {
        "first_character_ms": {n: first_character_ms(bard, n) for n in (1, 64, 256)},
        "first_character_of_a_new_process_s": new_process_seconds(),
        "cancellation_ms": cancellation_ms(bard),
        "relu_outputs_above_zero": active,
        "weight_bytes_per_character": weights,
        "weight_bytes_per_second": weights * rates["this decoder, 1 stream"],
        "real_words_masked_fraction": masked_fraction(bard),
        "held_out_loss_by_context_length": window_losses(bard),
    }
    for name, value in more.items():
        print(f"{name}: {value}")
    one, real = rates["this decoder, 1 stream"], rates["this decoder, 1 stream, real words"]
    staged = rates["this decoder, 1 stream, real words, cast, echo"]
    bounds = {
        "one stream, 100 times full recomputation": one >= 100 * base,
        "one stream, ahead of the C program": one > rates.get("C program, 1 thread", 0),
        "16 streams, 300 times full recomputation": rates["this decoder, 16 streams"] >= 300 * base,
        "real words, at most 10 % slower": real >= 0.9 * one,
        "cast and echo, at most 10 % slower than real words": staged >= 0.9 * real,
        "a new process, 2 s": more["first_character_of_a_new_process_s"] <= 2,
        "cancelled within 10 ms": more["cancellation_ms"] <= 10,
    }
    for name, met in bounds.items():
        print(f"{'met' if met else 'NOT MET'}: {name}")
    print(json.dumps({"characters_per_second": rates, **more, "bounds": bounds}))


def best(work: Callable[[], int], repeat: int) -> float:
    """Return the highest rate of `ROUNDS` rounds of `repeat` calls; `work` returns a count."""
    work()
    highest = 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        count = sum(work() for _ in range(repeat))
        highest = max(highest, count / (time.perf_counter() - started))
    return highest


def recomputation() -> Callable[[], int]:
    """Return a function that decodes one character as the reference: 256 positions recomputed."""
    model = Reference().eval()
    ids = torch.randint(65, (1, 256))

    @torch.no_grad()
    def step() -> int:
        torch.multinomial(torch.softmax(model(ids)[0, -1] / 0.8, dim=-1), 1)
        return 1

    return step


def streams(bard: noskgpt.Generator, count: int) -> float:
    """Return the total rate of `count` streams, each in its own thread."""
    with ThreadPoolExecutor(count) as executor:
        started = time.perf_counter()
        texts = executor.map(lambda s: bard.generate(PROMPT, CHARACTERS, seed=s), range(count))
        total = sum(map(len, texts))
        return total / (time.perf_counter() - started)


def start(bard: noskgpt.Generator, ids: np.ndarray[Any, Any]) -> CompiledSession:
    """Return a session of the compiled decoder after the prompt `ids`."""
    assert isinstance(bard.decoder, CompiledDecoder)
    sampling = bard._sampling("", 0.8, 0, 1.0, real_words=True)
    return bard.decoder.start(
        Request(
            ids=ids,
            sampling=sampling,
            constraints=bard._bare_stage.constrain("", sampling, real_words=True),
            keep=int(bard.model.config.context * KEPT_FRACTION),
            cancellation=Cancellation(),
        )
    )


def prefill_rate(bard: noskgpt.Generator) -> float:
    """Return the characters per second of a prefill of a full context."""
    ids = np.array(bard.tokenizer.encode(load_corpus().held_out[:256]), np.int64)
    assert isinstance(bard.decoder, CompiledDecoder)
    session, flag = start(bard, ids), np.zeros(1, np.uint8)
    weights = bard.decoder.weights

    def work() -> int:
        kernels.prefill(weights, session.state, ids, flag)
        return len(ids)

    return best(work, 20)


def masked_fraction(bard: noskgpt.Generator) -> float:
    """Return the fraction of characters that the real-words mask changes."""
    session = start(bard, np.array(bard.tokenizer.encode(PROMPT), np.int64))
    sampling = session._request.sampling
    uniforms = np.random.default_rng(1).random(20_000)
    changed = 0
    for i, uniform in enumerate(uniforms):
        (symbol,) = session.decode(uniforms[i : i + 1])
        # The logits are still those from which this symbol was sampled.
        sampling.allowed[:] = True
        changed += draw(session.state.logits, sampling, uniform) != symbol
    return changed / len(uniforms)


def first_character_ms(bard: noskgpt.Generator, length: int) -> float:
    """Return the median milliseconds to generate one character after a prompt of `length`."""
    prompt = load_corpus().held_out[:length]
    times = []
    for _ in range(30):
        started = time.perf_counter()
        bard.generate(prompt, 1)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def new_process_seconds() -> float:
    """Return the seconds to a new process's first character, without the import of torch."""
    code = (
        "import torch, time; t = time.perf_counter(); import noskgpt;"
        "noskgpt.load().generate('ROMEO:', 1); print(time.perf_counter() - t)"
    )
    command = [sys.executable, "-c", code]
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(ROUNDS)
    )


def cancellation_ms(bard: noskgpt.Generator) -> float:
    """Return the median milliseconds from a cancellation to the end of generation."""
    times = []
    with ThreadPoolExecutor(1) as executor:
        for _ in range(20):
            cancellation = Cancellation()
            text = executor.submit(bard.generate, PROMPT, 10**6, cancellation=cancellation)
            time.sleep(0.05)
            started = time.perf_counter()
            cancellation.cancel()
            text.result()
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


@torch.inference_mode()
def active_fraction(bard: noskgpt.Generator) -> float:
    """Return the fraction of ReLU outputs above zero over 50 windows of the held-out plays."""
    fractions: list[float] = []
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out: fractions.append(float((out > 0).float().mean()))
        )
        for name, module in bard.model.named_modules()
        if name.endswith("expand")
    ]
    bard.model(windows(bard, 50)[:, :-1])
    for hook in hooks:
        hook.remove()
    return statistics.mean(fractions)


def weight_bytes(bard: noskgpt.Generator, active: float) -> int:
    """Return the bytes of weights read per character; of contractions, only active rows."""
    assert isinstance(bard.decoder, CompiledDecoder)
    w = bard.decoder.weights
    read_fully = w.qkv.nbytes + w.projection.nbytes + w.expand.nbytes
    return int(read_fully + active * (w.contract.nbytes + w.head.nbytes))


def windows(bard: noskgpt.Generator, count: int) -> Tensor:
    """Return (count, 257) ids of the held-out plays."""
    ids = torch.tensor(bard.tokenizer.encode(load_corpus().held_out[: count * 257]))
    return ids.view(count, 257)


@torch.inference_mode()
def window_losses(bard: noskgpt.Generator) -> dict[str, float]:
    """Return the held-out loss by the number of characters before the predicted one.

    Beyond the first context, a window that keeps K characters predicts with K to 256 characters
    before the next one, each number equally often. `exact` always has 256, which the positions
    from 224 on approximate.
    """
    ids = windows(bard, 1700)
    losses = torch.cat(
        [
            F.cross_entropy(bard.model(part[:, :-1]).mT, part[:, 1:], reduction="none")
            for part in torch.split(ids, 50)
        ]
    ).mean(dim=0)  # by position
    context = bard.model.config.context
    keeps = sorted({int(context * KEPT_FRACTION), context // 4, context // 2, 224})
    return {f"{keep} to {context}": float(losses[keep - 1 :].mean()) for keep in keeps}


def compile_c(bard: noskgpt.Generator, folder: Path) -> list[str] | None:
    """Build the C program, write its weights, and check its logits; return its command line."""
    compiler = shutil.which("cc")
    if compiler is None:
        print("No C compiler found: the C program is skipped.")
        return None
    source = Path(__file__).with_name("reference.c")
    program = folder / "reference"
    subprocess.run(
        [compiler, "-O3", "-march=native", str(source), "-lm", "-o", str(program)], check=True
    )
    weights = folder / "weights.bin"
    state = bard.model.state_dict()
    names = ["token_embedding.weight", "position_embedding.weight"]
    parts = [state[name] for name in names]
    for i in range(bard.model.config.n_layer):
        b, a = f"blocks.{i}", f"blocks.{i}.attention"
        qkv = torch.cat([state[f"{a}.{part}.weight"] for part in ("query", "key", "value")])
        parts += [state[f"{b}.norm1.weight"], state[f"{b}.norm1.bias"], qkv.mT]
        parts += [state[f"{a}.projection.weight"].mT, state[f"{a}.projection.bias"]]
        parts += [state[f"{b}.norm2.weight"], state[f"{b}.norm2.bias"]]
        parts += feed_forward(state, f"{b}.feed_forward")
    parts += feed_forward(state, "feed_forward")
    parts += [state["head.weight"].mT, state["head.bias"]]
    weights.write_bytes(b"".join(part.contiguous().numpy().tobytes() for part in parts))
    command = [str(program), str(weights)]

    ids = bard.tokenizer.encode(load_corpus().held_out[:200])
    logits = call_c(command, 0, ids)["logits"]
    with torch.inference_mode():
        expected = bard.model(torch.tensor([ids]))[0, -1]
    difference = float((torch.tensor(logits) - expected).abs().max())
    assert difference < 1e-3, f"the C program's logits differ by {difference}"
    return command


def feed_forward(state: dict[str, Tensor], name: str) -> list[Tensor]:
    """Return the weights of a feed-forward in the layout of the C program."""
    return [
        state[f"{name}.expand.weight"].mT,
        state[f"{name}.expand.bias"],
        state[f"{name}.contract.weight"].mT,
        state[f"{name}.contract.bias"],
    ]


def call_c(command: list[str], count: int, ids: list[int]) -> dict[str, Any]:
    """Run the C program and return its output."""
    arguments = [*command, str(count), str(int(256 * KEPT_FRACTION)), *map(str, ids)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def run_c(command: list[str], count: int, prompt: str, bard: noskgpt.Generator) -> float:
    """Return the rate of the C program over `count` characters."""
    return count / float(call_c(command, count, bard.tokenizer.encode(prompt))["seconds"])


if __name__ == "__main__":
    main()
