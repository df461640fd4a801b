"""Test the compiled decoder against the model, its memory use, cancellation and code cache."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

import noskgpt
from noskgpt.checkpoint import Checkpoint
from noskgpt.config import ModelConfig
from noskgpt.corpus import load_corpus
from noskgpt.inference import jit, kernels
from noskgpt.inference.decoder import (
    Cancellation,
    CompiledDecoder,
    CompiledSession,
    Request,
)
from noskgpt.inference.eager import EagerDecoder
from noskgpt.model import GPT

PACKAGE = Path(noskgpt.__file__).parent


@pytest.fixture(scope="module")
def bard() -> noskgpt.Generator:
    """Return a generator with the bundled weights."""
    return noskgpt.load()


def session(bard: noskgpt.Generator, ids: NDArray[np.int64]) -> CompiledSession:
    assert isinstance(bard.decoder, CompiledDecoder)
    sampling = bard._sampling("", 0.0, 0, 1.0, real_words=False)
    return bard.decoder.start(
        Request(
            ids=ids,
            sampling=sampling,
            constraints=bard._bare_stage.constrain("", sampling),
            keep=1,
            cancellation=Cancellation(),
        )
    )


def decoder_logits(bard: noskgpt.Generator, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the (T, V) logits after each id, fed one at a time."""
    started = session(bard, ids[:1])
    assert isinstance(bard.decoder, CompiledDecoder)
    rows = [started.state.logits.copy()]
    for symbol in ids[1:]:
        kernels.feed(bard.decoder.weights, started.state, symbol)
        rows.append(started.state.logits.copy())
    return np.stack(rows)


def held_out_ids(bard: noskgpt.Generator, windows: int) -> NDArray[np.int64]:
    text = load_corpus().held_out
    return np.array(bard.tokenizer.encode(text[: windows * 256 + 1]), np.int64)


@torch.inference_mode()
def test_logits_equal_those_of_the_model_at_every_position(bard: noskgpt.Generator) -> None:
    ids = held_out_ids(bard, 8)
    for start in range(0, 8 * 256, 256):
        window = ids[start : start + 256]
        expected = bard.model(torch.from_numpy(window)[None])[0].numpy()
        assert np.abs(decoder_logits(bard, window) - expected).max() < 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 63, 64, 65, 255, 256])
def test_logits_after_a_prefill_equal_those_of_the_model(
    bard: noskgpt.Generator, length: int
) -> None:
    ids = held_out_ids(bard, 1)[:length]
    expected = bard.model(torch.from_numpy(ids)[None])[0, -1].numpy()
    assert np.abs(session(bard, ids).state.logits - expected).max() < 1e-3


@torch.inference_mode()
def test_weights_that_need_32_bits_are_not_rounded(weights_file: Path) -> None:
    untrained = noskgpt.load(weights_file)
    assert isinstance(untrained.decoder, CompiledDecoder)
    assert untrained.decoder.weights.qkv.dtype == np.uint64
    ids = np.random.default_rng(1).integers(65, size=256)
    expected = untrained.model(torch.from_numpy(ids)[None])[0].numpy()
    assert np.abs(decoder_logits(untrained, ids) - expected).max() < 1e-4


def test_bundled_weights_are_stored_in_16_bits_without_loss(bard: noskgpt.Generator) -> None:
    assert isinstance(bard.decoder, CompiledDecoder)
    assert bard.decoder.weights.qkv.dtype == np.uint32
    ids = held_out_ids(bard, 12)
    decoder_loss = model_loss = 0.0
    for start in range(0, 12 * 256, 256):
        window, targets = ids[start : start + 256], ids[start + 1 : start + 257]
        logits = torch.from_numpy(decoder_logits(bard, window))
        decoder_loss += float(F.cross_entropy(logits, torch.from_numpy(targets)))
        with torch.inference_mode():
            logits = bard.model(torch.from_numpy(window)[None])[0]
        model_loss += float(F.cross_entropy(logits, torch.from_numpy(targets)))
    assert abs(decoder_loss - model_loss) / 12 < 0.002


def test_greedy_text_equals_that_of_pytorch_over_10_000_characters(bard: noskgpt.Generator) -> None:
    slow = noskgpt.load(fast=False)
    assert isinstance(slow.decoder, EagerDecoder)
    text = load_corpus().held_out
    for start in range(0, 400_000, 20_000):  # 20 prompts, 500 characters after each
        prompt = text[start : start + 100]
        compiled = bard.generate(prompt, 500, temperature=0)
        eager = slow.generate(prompt, 500, temperature=0)
        if compiled != eager:
            same = next(i for i in range(500) if compiled[i] != eager[i])
            window = (prompt + compiled[:same])[-256:]
            with torch.inference_mode():
                logits = bard.model(torch.tensor([bard.tokenizer.encode(window)]))[0, -1]
            first, second = logits.topk(2).values
            assert first - second < 1e-3, f"the text after {prompt!r} differs at {same}"


@torch.inference_mode()
@pytest.mark.parametrize(
    "shape",
    [
        {"n_layer": 1, "n_head": 2, "n_embd": 16},
        {"n_layer": 2, "n_head": 1, "n_embd": 8, "vocab_size": 3, "context": 5},
        {"vocab_size": 256, "context": 32},
        {"n_layer": 1, "n_head": 1, "n_embd": 24, "context": 1},
    ],
)
def test_decodes_models_of_other_shapes(shape: dict[str, int]) -> None:
    config = ModelConfig(**shape)
    model = GPT(config).eval()
    model.initialize(torch.Generator().manual_seed(2))
    vocabulary = "".join(map(chr, range(300, 300 + config.vocab_size)))
    checkpoint = Checkpoint(config=config, vocabulary=vocabulary, weights=model.arrays())
    fast, slow = noskgpt.Generator(checkpoint), noskgpt.Generator(checkpoint, fast=False)
    assert isinstance(fast.decoder, CompiledDecoder)
    length = config.context
    ids = np.random.default_rng(1).integers(config.vocab_size, size=length)
    expected = model(torch.from_numpy(ids)[None])[0].numpy()
    assert np.abs(decoder_logits(fast, ids) - expected).max() < 1e-4
    assert np.abs(session(fast, ids).state.logits - expected[-1]).max() < 1e-4
    prompt = vocabulary[:2]
    assert fast.generate(prompt, 3 * length, seed=1) == slow.generate(prompt, 3 * length, seed=1)


def test_rejects_heads_of_a_size_that_is_no_multiple_of_8() -> None:
    assert not CompiledDecoder.fits(ModelConfig(n_layer=1, n_head=4, n_embd=16))


def test_stops_when_cancelled_from_another_thread(bard: noskgpt.Generator) -> None:
    cancellation = Cancellation()
    pieces = bard.stream("ROMEO:", 10**6, seed=1, cancellation=cancellation)
    first = next(pieces)
    threading.Timer(0.05, cancellation.cancel).start()
    rest = "".join(pieces)
    assert len(first + rest) < 10**5
    assert (first + rest).startswith(bard.generate("ROMEO:", 64, seed=1))
    assert bard.generate("ROMEO:", 10, cancellation=cancellation) == ""


def test_a_request_uses_at_most_one_and_a_half_megabytes(bard: noskgpt.Generator) -> None:
    started = session(bard, np.zeros(256, np.int64))
    arrays = [*started.state, *started._request.sampling]
    assert sum(a.nbytes for a in arrays if isinstance(a, np.ndarray)) < 1_500_000


def run(
    code: str, folder: Path = PACKAGE.parent, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the code under test
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,  # Python searches this folder for packages first
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


GENERATE = "import noskgpt; print(noskgpt.load({path!r}).generate('ROMEO:', 30, seed=1))"


def test_without_numba_pytorch_decodes_the_same_text_and_one_warning_is_logged(
    weights_file: Path,
) -> None:
    assert jit.AVAILABLE
    generate = GENERATE.format(path=str(weights_file))
    done = run(f"import sys; sys.modules['numba'] = None; {generate}; {generate}")
    assert done.stderr.count("decoding with PyTorch") == 1
    expected = noskgpt.load(weights_file).generate("ROMEO:", 30, seed=1)
    assert done.stdout == f"{expected}\n" * 2


ANNOUNCED = """
import logging, sys
logging.basicConfig(level=logging.INFO)
import noskgpt
from noskgpt.inference import jit
for _ in range(2):
    noskgpt.load(sys.argv[1])
"""
"""Loading compiles nothing; the first generation does."""


@pytest.mark.parametrize(("cached", "times"), [(False, 1), (True, 0)])
def test_a_decoder_that_has_to_be_compiled_is_announced_once(
    *, cached: bool, times: int, tmp_path: Path, weights_file: Path
) -> None:
    shutil.copytree(
        PACKAGE, tmp_path / "noskgpt", ignore=shutil.ignore_patterns("__pycache__", "bundled")
    )
    program = ANNOUNCED.replace("sys.argv[1]", repr(str(weights_file)))
    if cached:
        store = "from noskgpt.inference import jit; (jit._CACHE / 'kernels.nbc').touch()"
        run(store, tmp_path)
    assert run(program, tmp_path).stderr.count("Compiling the decoder") == times


SMALL = """
from .jit import compiled

@compiled
def double(number):
    return 2 * number
"""
"""A function that is compiled sooner than the decoder."""


@pytest.mark.parametrize("writable", ["beside the source", "the user's cache", "nowhere"])
def test_compiled_code_is_cached_in_the_first_writable_folder(
    writable: str, tmp_path: Path
) -> None:
    package, home = tmp_path / "noskgpt", tmp_path / "home"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    (package / "inference" / "small.py").write_text(SMALL, encoding="utf-8")
    home.mkdir()
    if writable != "beside the source":
        # A file of that name prevents creating the folder, even for root.
        (package / "inference" / "__pycache__").touch()
    if writable == "nowhere":
        home.rmdir()
        home.touch()
    program = "from noskgpt.inference.small import double; print(double(21))"
    done = run(program, tmp_path, HOME=str(home), XDG_CACHE_HOME=str(home))
    assert done.stdout == "42\n"
    cached = {
        "beside the source": list(package.rglob("small.double*.nbc")),
        "the user's cache": list(home.rglob("small.double*.nbc")),
    }
    assert {folder for folder, files in cached.items() if files} == {writable} - {"nowhere"}
