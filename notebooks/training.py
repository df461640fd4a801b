# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From the plays to a voice
#
# This notebook trains a small noskGPT run from the bundled text to a sample, in a minute. To open
# it as one: `jupytext --to notebook notebooks/training.py`. It runs as a plain script too.

# %%
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from IPython.display import Image, display

from noskgpt.checkpoint import load, save
from noskgpt.corpus import load_corpus
from noskgpt.evaluation import count_words, evaluate
from noskgpt.inference.generator import Generator
from noskgpt.model import GPT, KVCache, ModelConfig
from noskgpt.resources import weights_path
from noskgpt.tokenizer import Tokenizer
from noskgpt.training.batches import Batches
from noskgpt.training.plotting import plot_losses
from noskgpt.training.recipe import TrainingConfig
from noskgpt.training.trainer import Finished, Progress, Trainer

# %% [markdown]
# ## The text
#
# 33 plays to learn from and four that are held out: what the model writes about Petruchio and
# Prospero it has not read. Everything is written in 65 symbols.

# %%
corpus = load_corpus()
print(f"{len(corpus.train):,} characters to learn from, {len(corpus.held_out):,} held out")
print(corpus.train[:300])

# %%
tokenizer = Tokenizer()
ids = torch.tensor(tokenizer.encode(corpus.train[:10_000]))
print(tokenizer.vocabulary.encode())
print(tokenizer.encode("Café: “Aye”"), "is read as", tokenizer.fold("Café: “Aye”").text)

# %% [markdown]
# A batch is some windows of 256 characters; the targets are the same windows, one character on.

# %%
inputs, targets = Batches(ids, batch=2, context=256, seed=1).draw(step=0)
print(inputs.shape)
print(repr(tokenizer.decode(inputs[0, :60].tolist())))
print(repr(tokenizer.decode(targets[0, :60].tolist())))

# %% [markdown]
# ## The model
#
# Five blocks, four heads of 32 channels each. Each position gives logits for the symbol after it.
# An untrained model's loss is about ln 65 = 4.17 nats per character: it knows nothing.

# %%
model = GPT(ModelConfig())
model.initialize(torch.Generator().manual_seed(1))
print(f"{model.parameter_count():,} parameters, {model.training_flops() / 1e6:.1f} MFLOP to learn")
print("logits", tuple(model(inputs).shape), "loss", round(evaluate(model, ids).loss, 2))

# %% [markdown]
# To write, it keeps the keys and values of the positions before; the logits are the same.

# %%
model.eval()
with torch.inference_mode():
    cache = KVCache(model.config)
    one_by_one = torch.cat([model(inputs[:1, i : i + 1], cache) for i in range(40)], dim=1)
    print("largest difference", float((one_by_one - model(inputs[:1, :40])).abs().max()))

# %% [markdown]
# ## Training
#
# The trainer yields events; here they are printed. A run of this length learns spelling and the
# look of a play, no more.

# %%
config = TrainingConfig(steps=60, batch=8, evaluations=1, precision="fp32")
part = replace(corpus, held_out=corpus.held_out[:50_000])  # measuring all of it takes longer
trainer = Trainer(part, config, command="notebooks/training.py")
for event in trainer.run():
    match event:
        case Progress():
            print(
                f"step {event.step:3}  training loss {event.train_loss:.3f}  {event.sample or ''}"
            )
        case Finished(checkpoint):
            print(json.dumps({"held-out loss": checkpoint.training.held_out_loss}))

# %%
folder = Path(tempfile.mkdtemp())
save(checkpoint, folder / "small.pth")
plot_losses(checkpoint.training, folder / "small.png")
display(Image(str(folder / "small.png")))

# %% [markdown]
# ## The voice
#
# The same seed, from these weights and from the bundled ones.

# %%
for weights in (checkpoint, load(weights_path())):
    bard = Generator(weights)
    words = count_words(bard, samples=4)
    print(f"--- {bard.name}: held-out loss {weights.training.held_out_loss:.3f}, ", end="")
    print(f"{words.real_share:.1%} of its words are in the plays")
    print("JULIET:", bard.generate("JULIET:", max_chars=300, seed=1))
