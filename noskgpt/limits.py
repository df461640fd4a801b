"""Bound what the library accepts from a file, before it spends memory or time on it.

A file may be damaged, hostile or not what its name says, so nothing that it claims is believed.
Each bound is far above what this project produces: about a hundred times the reference in a weights
file, and twenty times the plays in a text.
"""

MAX_PARAMETERS = 120_000_000
"""Parameters of a model; the reference has 1.2 million."""
MAX_LAYERS = 64
"""Blocks of a model: each is a dozen objects, however small its tensors are."""
MAX_CONTEXT = 2048
"""Positions of a context: a request reserves memory for all of them."""
MAX_BATCH = 16_384
"""Windows in the batch of a training step."""

MAX_WEIGHTS_BYTES = 600_000_000
"""Size of a weights file: `MAX_PARAMETERS` of 4 bytes, and the largest lexicon."""
MAX_STATE_BYTES = 1_600_000_000
"""Size of the state of a run: its weights, and up to two moments of each."""
MAX_DIRECTORY_BYTES = 4_000_000
"""Size of the list of tensors in such a file; the reference's takes 5,000 bytes."""
MAX_VALUES_BYTES = 64_000_000
"""Size of the values in such a file that are no tensors: the words of a text, and the losses."""
MAX_OPERATIONS = 1_000_000
"""Instructions that build the values of such a file; those of the bundled weights are 8,500."""

MAX_TEXT_BYTES = 100_000_000
"""Size of a corpus, which takes about 30 times as much memory while it is prepared."""
MAX_MANIFEST_BYTES = 4_000_000
"""Size of a manifest; that of the plays has 7,100 bytes."""
MAX_WORD = 1000
"""Letters of a word in a lexicon; the longest word of the plays has 27."""
MAX_LETTERS = 8_000_000
"""Letters of all words in a lexicon; the words of the plays have 184,000."""
MAX_PROMPT = 20_000
"""Characters of a prompt that are read, from its end on; a model reads at most `MAX_CONTEXT`, but
earlier ones decide on the cast and on the words that may be repeated."""
