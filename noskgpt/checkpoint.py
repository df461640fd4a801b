"""Save, load and check weights files, and import those of the original noskGPT.

A checkpoint is a `torch.save` file of plain values and tensors, so that it loads with
``weights_only=True``, which never runs code from the file.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noskgpt import lexicon, scene
from noskgpt.errors import CheckpointError
from noskgpt.lexicon import Lexicon
from noskgpt.model import GPT, ModelConfig
from noskgpt.scene import Casts
from noskgpt.tokenizer import VOCABULARY, Tokenizer

_LEXICON_ARRAYS = ("first", "edges", "ends")

FORMAT = "noskgpt"
FORMAT_VERSION = 1

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the system's errors for a full disk and for a used-up quota."""
REMEDY = (
    "Restore it with `git checkout weights.pth`, train new weights with `noskgpt train`, "
    "or choose another file."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """Describe the training run of some weights; None is unknown. Losses are nats per character."""

    steps: int | None = None
    batch: int | None = None
    train_loss: float | None = None
    held_out_loss: float | None = None
    held_out_characters: int | None = None
    """Length of the held-out text in characters."""
    evaluated_characters: int | None = None
    """Number of held-out characters, from the first on, over which its losses were measured."""
    start_weights: str | None = None
    """Short name of the weights that the run started from; None if it started from nothing."""
    start_command: str | None = None
    """The command that trained these."""
    start_loss: float | None = None
    """Their loss over the same characters as `held_out_loss`, before the first step."""
    curve: tuple[tuple[int, float, float | None], ...] = ()
    """(step, mean training loss since the previous point, held-out loss or None) per point."""
    corpus_sha256: str | None = None
    command: str | None = None
    seed: int | None = None
    seconds: float | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    processes: int | None = None
    torch_version: str | None = None
    finished_at: str | None = None
    """ISO 8601, UTC."""

    @property
    def evaluated_fraction(self) -> float:
        """The fraction of the held-out text over which the losses were measured.

        Only losses over the same characters may be compared. Records of earlier versions do not
        have the numbers; their losses are over the entire text.
        """
        if not self.held_out_characters or self.evaluated_characters is None:
            return 1.0
        return self.evaluated_characters / self.held_out_characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Hold the contents of a weights file. `weights` are float32 tensors on the CPU."""

    config: ModelConfig
    vocabulary: str
    weights: Mapping[str, Tensor]
    training: TrainingRecord = field(default_factory=TrainingRecord)
    lexicon: Lexicon | None = None
    """The words of the text that the weights were trained on; None if unknown."""
    casts: Casts | None = None
    """The casts of that text; None if unknown."""

    def build_model(self) -> GPT:
        """Return a model with these weights, in evaluation mode."""
        model = GPT(self.config)
        model.load_state_dict(dict(self.weights))
        return model.eval()

    def fingerprint(self) -> str:
        """Return the first 8 hex digits of the SHA-256 of the weights."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(self.weights[name].detach().contiguous().numpy().tobytes())
        return digest.hexdigest()[:8]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically.

    Raises:
        CheckpointError: The folder cannot be written or the disk is full.
    """
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": asdict(checkpoint.config),
        "vocabulary": checkpoint.vocabulary,
        "training": asdict(checkpoint.training),
        "weights": {k: v.detach().to("cpu", torch.float32) for k, v in checkpoint.weights.items()},
    }
    if checkpoint.lexicon is not None:
        arrays = checkpoint.lexicon._asdict()
        document["lexicon"] = {name: torch.from_numpy(arrays[name]) for name in _LEXICON_ARRAYS}
    if checkpoint.casts is not None:
        document["casts"] = scene.to_values(checkpoint.casts)
    write_atomically(document, path)


def check_writable(path: Path) -> None:
    """Raise `CheckpointError` if `path` cannot be written; creates its folder if missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}). Choose another file."
        raise CheckpointError(msg) from error


def write_atomically(document: Mapping[str, Any], path: Path) -> None:
    """Save a document so that `path` always has either the old file or the complete new one.

    `torch.save` writes a temporary file in the same folder, which is flushed to disk and renamed.

    Raises:
        CheckpointError: The folder cannot be written or the disk is full.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            torch.save(document, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        _sync_directory(path.parent)
    except (OSError, RuntimeError) as error:
        # torch raises RuntimeError if it cannot write its archive.
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        msg = (
            f"{path}: cannot be written ({_write_problem(error)}). "
            "Free disk space or choose another folder."
        )
        raise CheckpointError(msg) from error


def _write_problem(error: Exception) -> str:
    """Return why a file could not be written; torch hides the system's error behind its own."""
    cause = error if isinstance(error, OSError) else error.__context__
    if not isinstance(cause, OSError):
        return str(error)
    problem = cause.strerror or str(cause)
    return f"the disk is full: {problem}" if cause.errno in DISK_FULL else problem


def _sync_directory(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open directories, and its renames are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path: Path) -> Checkpoint:
    """Load and check a weights file.

    Raises:
        CheckpointError: The file is missing, damaged, truncated, foreign or of another format
            version, or a weight has a wrong name, shape or type or values that are not finite.
    """
    document = read_document(path)
    if "token_embedding_table.weight" in document:
        msg = (
            f"{path}: a weights file of the original noskGPT. "
            f"Convert it with `noskgpt import-reference {path} NEW.pth`."
        )
        raise CheckpointError(msg)
    if document.get("format") != FORMAT:
        msg = f"{path}: not a noskGPT weights file. {REMEDY}"
        raise CheckpointError(msg)
    if document.get("format_version") != FORMAT_VERSION:
        msg = (
            f"{path}: format version {document.get('format_version')!r}, but this version of "
            f"noskgpt reads {FORMAT_VERSION}. Update noskgpt, or train new weights with "
            "`noskgpt train`."
        )
        raise CheckpointError(msg)
    try:
        config = ModelConfig(**document["config"])
        vocabulary = Tokenizer(str(document["vocabulary"])).vocabulary
        names = {f.name for f in fields(TrainingRecord)}
        record = {k: v for k, v in document["training"].items() if k in names}
        training = TrainingRecord(**record)
        weights = document["weights"]
        _check_weights(config, vocabulary, weights)
        words = _load_lexicon(vocabulary, document.get("lexicon"))
        casts = document.get("casts")
        casts = None if casts is None else scene.from_values(casts)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        msg = f"{path}: damaged noskGPT weights file ({error}). {REMEDY}"
        raise CheckpointError(msg) from error
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        weights=weights,
        training=training,
        lexicon=words,
        casts=casts,
    )


def read_document(path: Path) -> dict[str, Any]:
    """Load a `torch.save` file of plain values without running code from it.

    Raises:
        CheckpointError: The file is missing, unreadable or damaged, or is not a mapping.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        msg = f"{path}: the file does not exist. {REMEDY}"
        raise CheckpointError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}). {REMEDY}"
        raise CheckpointError(msg) from error
    except Exception as error:  # a damaged archive can raise almost any exception class
        msg = f"{path}: damaged, truncated, or not a weights file. {REMEDY}"
        raise CheckpointError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path}: not a noskGPT weights file. {REMEDY}"
        raise CheckpointError(msg)
    return document


def _check_weights(config: ModelConfig, vocabulary: str, weights: object) -> None:
    """Raise `ValueError` unless `weights` have exactly the names, shapes and types of `config`."""
    if len(vocabulary) != config.vocab_size:
        msg = f"{len(vocabulary)} symbols, but the model has {config.vocab_size}"
        raise ValueError(msg)
    if not isinstance(weights, dict):
        msg = "the weights are missing"
        raise ValueError(msg)  # noqa: TRY004  (the same error class for every kind of damage)
    with torch.device("meta"):
        expected = GPT(config).state_dict()
    if weights.keys() != expected.keys():
        differing = sorted(map(str, weights.keys() ^ expected.keys()))
        msg = f"missing or unexpected weights: {', '.join(differing[:3])}"
        raise ValueError(msg)
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32 or tensor.is_sparse:
            msg = f"{name} is not a plain float32 tensor"
            raise ValueError(msg)
        if tensor.shape != expected[name].shape:
            msg = f"{name} has shape {tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            raise ValueError(msg)
        if not bool(tensor.isfinite().all()):
            msg = f"{name} has values that are not finite"
            raise ValueError(msg)


def _load_lexicon(vocabulary: str, arrays: Mapping[str, Tensor] | None) -> Lexicon | None:
    """Return the lexicon of a file, if it has one; raise `ValueError` if it is inconsistent."""
    if arrays is None:
        return None
    first, edges, ends = (np.ascontiguousarray(arrays[name].numpy()) for name in _LEXICON_ARRAYS)
    loaded = lexicon.build(vocabulary, ())._replace(first=first, edges=edges, ends=ends)
    lexicon.check(loaded)
    return loaded


def import_reference(old: Path, new: Path) -> Checkpoint:
    """Convert the `state_dict` file `old` of the original noskGPT to the weights file `new`.

    Raises:
        CheckpointError: `old` is not such a file, or `new` cannot be written.
    """
    source = read_document(old)
    config = ModelConfig()
    try:
        weights = _convert_reference(source, config)
        _check_weights(config, VOCABULARY, weights)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        msg = (
            f"{old}: not a state_dict of the original noskGPT ({error}). "
            "Give the .pth file that its training script wrote."
        )
        raise CheckpointError(msg) from error
    checkpoint = Checkpoint(
        config=config,
        vocabulary=VOCABULARY,
        weights=weights,
        training=TrainingRecord(command=f"noskgpt import-reference {old.name} {new.name}"),
    )
    save(checkpoint, new)
    return checkpoint


def _convert_reference(source: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename the weights of the reference and concatenate its per-head matrices."""
    weights = {
        "token_embedding.weight": source["token_embedding_table.weight"],
        "position_embedding.weight": source["position_embedding_table.weight"],
    }
    linear_pairs = {"feed_forward": "feedforward"}
    for i in range(config.n_layer):
        old, new = f"transformer_blocks.{i}", f"blocks.{i}"
        for part in ("query", "key", "value"):
            weights[f"{new}.attention.{part}.weight"] = torch.cat(
                [
                    source[f"{old}.self_attention.heads.{h}.{part}.weight"]
                    for h in range(config.n_head)
                ]
            )
        for kind in ("weight", "bias"):
            weights[f"{new}.attention.projection.{kind}"] = source[
                f"{old}.self_attention.projection.{kind}"
            ]
            weights[f"{new}.norm1.{kind}"] = source[f"{old}.layernorm1.{kind}"]
            weights[f"{new}.norm2.{kind}"] = source[f"{old}.layernorm2.{kind}"]
        linear_pairs[f"{new}.feed_forward"] = f"{old}.feedforward"
    for new, old in linear_pairs.items():
        for kind in ("weight", "bias"):
            weights[f"{new}.expand.{kind}"] = source[f"{old}.network.0.{kind}"]
            weights[f"{new}.contract.{kind}"] = source[f"{old}.network.2.{kind}"]
    for kind in ("weight", "bias"):
        weights[f"head.{kind}"] = source[f"output_head.{kind}"]
    return {name: tensor.to(torch.float32).clone() for name, tensor in weights.items()}
