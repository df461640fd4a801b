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
# # From the plays to generated text
#
# This script trains noskGPT on the bundled plays for a minute and generates a sample. To convert
# it to a notebook, run `jupytext --to notebook notebooks/training.py`.

# %%
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from IPython.display import Image, display

from noskgpt.checkpoint import load, save
from noskgpt.config import ModelConfig
from noskgpt.corpus import load_corpus
from noskgpt.evaluation import count_words, evaluate
from noskgpt.inference.generator import Generator
from noskgpt.model import GPT, KVCache
from noskgpt.resources import weights_path
from noskgpt.runs import Finished, Progress
from noskgpt.tokenizer import Tokenizer
from noskgpt.training.batches import Batches
from noskgpt.training.plotting import plot_losses
from noskgpt.training.recipe import TrainingConfig
from noskgpt.training.trainer import Trainer

# %% [markdown]
# ## The text
#
# The model trains on 33 plays. Four more are held out: it never sees Petruchio's or Prospero's
# lines. The vocabulary has 65 symbols.

# %%
corpus = load_corpus()
print(f"{len(corpus.train):,} characters to train on, {len(corpus.held_out):,} held out")
print(corpus.train[:300])

# %%
tokenizer = Tokenizer()
ids = torch.tensor(tokenizer.encode(corpus.train[:10_000]))
print(tokenizer.vocabulary.encode())
print(tokenizer.encode("Café: “Aye”"), "encodes", tokenizer.fold("Café: “Aye”").text)

# %% [markdown]
# A batch is several windows of 256 characters. The targets are the same windows, shifted by one
# character.

# %%
inputs, targets = Batches(ids, batch=2, context=256, seed=1).get(step=0)
print(inputs.shape)
print(repr(tokenizer.decode(inputs[0, :60].tolist())))
print(repr(tokenizer.decode(targets[0, :60].tolist())))

# %% [markdown]
# ## The model
#
# The network has five blocks with four heads of 32 channels each. Each position gives the logits
# of the next symbol. The loss of an untrained model is about ln 65 = 4.17 nats per character, that
# of a uniform distribution.

# %%
model = GPT(ModelConfig())
model.initialize(torch.Generator().manual_seed(1))
print(f"{model.parameter_count():,} parameters")
print(f"{model.training_flops() / 1e6:.1f} MFLOP per character in training")
print("logits", tuple(model(inputs).shape), "loss", round(evaluate(model, ids).loss, 2))

# %% [markdown]
# Decoding caches the keys and values of earlier positions. The logits are the same.

# %%
model.eval()
with torch.inference_mode():
    cache = KVCache(model.config)
    one_by_one = torch.cat([model(inputs[:1, i : i + 1], cache) for i in range(40)], dim=1)
    print("largest difference", float((one_by_one - model(inputs[:1, :40])).abs().max()))

# %% [markdown]
# ## Training
#
# The trainer yields events, which are printed here. A run this short learns some spelling and the
# layout of a play.

# %%
config = TrainingConfig(steps=60, batch=8, evaluations=1, precision="fp32")
part = replace(corpus, held_out=corpus.held_out[:50_000])  # a shorter text saves time
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
# ## Generated text
#
# The same prompt and seed, first with these weights, then with the bundled ones.

# %%
for weights in (checkpoint, load(weights_path())):
    generator = Generator(weights)
    words = count_words(generator, samples=4)
    print(f"--- {generator.name}: held-out loss {weights.training.held_out_loss:.3f}, ", end="")
    print(f"{words.real_fraction:.1%} of its words occur in the plays")
    print("JULIET:", generator.generate("JULIET:", max_chars=300, seed=1))
