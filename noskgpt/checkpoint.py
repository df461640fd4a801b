"""Save, load and check weights files, and import those of the original noskGPT.

A checkpoint is a `torch.save` file of plain values and tensors, which `noskgpt.archive` reads
without running code from it, and without spending more memory or time than the file is worth.
Nothing here needs PyTorch, except `Checkpoint.build_model`.
"""

import errno
import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from noskgpt import archive, commands, lexicon, scene
from noskgpt.config import ModelConfig
from noskgpt.errors import CheckpointError, brief
from noskgpt.files import replacing
from noskgpt.lexicon import Lexicon
from noskgpt.limits import MAX_LETTERS, MAX_WEIGHTS_BYTES
from noskgpt.resources import weights_advice
from noskgpt.scene import Casts
from noskgpt.tokenizer import VOCABULARY, Tokenizer

if TYPE_CHECKING:
    from noskgpt.model import GPT

_LEXICON_ARRAYS = ("first", "edges", "ends")

FORMAT = "noskgpt"
FORMAT_VERSION = 1

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the system's errors for a full disk and for a used-up quota."""
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Numbers of the system's errors for missing permissions and for a read-only file system."""


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
    """The command that trained them, without the folders of its files; so is `start_command`."""
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
    """Hold the contents of a weights file.

    `weights` are float32 arrays with the names and shapes of `ModelConfig.shapes`.
    """

    config: ModelConfig
    vocabulary: str
    weights: Mapping[str, NDArray[np.float32]]
    training: TrainingRecord = field(default_factory=TrainingRecord)
    lexicon: Lexicon | None = None
    """The words of the text that the weights were trained on; None if unknown."""
    casts: Casts | None = None
    """The casts of that text; None if unknown."""

    def build_model(self) -> "GPT":
        """Return a PyTorch model with a copy of these weights, in evaluation mode."""
        # Imported here: PyTorch takes a second and 200 MB, and text is generated without it.
        from noskgpt.model import GPT  # noqa: PLC0415

        model = GPT(self.config)
        model.load_arrays(self.weights)
        return model.eval()

    def fingerprint(self) -> str:
        """Return the first 8 hex digits of the SHA-256 of the weights."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(self.weights[name].astype("<f4", copy=False).tobytes())
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
        "weights": dict(checkpoint.weights),
    }
    if checkpoint.lexicon is not None:
        arrays = checkpoint.lexicon._asdict()
        document["lexicon"] = {name: arrays[name] for name in _LEXICON_ARRAYS}
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
        raise _cannot_write(path, error) from error


def write_atomically(document: Mapping[str, Any], path: Path) -> None:
    """Save a document so that `path` always has either the old file or the complete new one.

    Raises:
        CheckpointError: The folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, 0o644) as file:
            archive.write(document, file)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> CheckpointError:
    """Word why a file could not be written."""
    problem, advice = error.strerror or str(error), "Choose another file."
    if error.errno in DISK_FULL:
        problem = f"the disk is full: {problem}"
        advice = "Free disk space or choose another folder."
    elif error.errno in NOT_WRITABLE:
        problem = f"its folder is not writable: {problem}"
        advice = "Let this user write there, or choose another folder."
    return CheckpointError(f"{path}: cannot be written ({problem}). {advice}")


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
            f"Convert it with `{commands.noskgpt('import-reference', str(path), 'NEW.pth')}`."
        )
        raise CheckpointError(msg)
    if document.get("format") != FORMAT:
        msg = f"{path}: not a noskGPT weights file. {weights_advice(path)}"
        raise CheckpointError(msg)
    version = document.get("format_version")
    if not is_integer(version):
        problem = "damaged noskGPT weights file (it has no format version)"
        msg = f"{path}: {problem}. {weights_advice(path)}"
        raise CheckpointError(msg)
    if version != FORMAT_VERSION:
        msg = (
            f"{path}: format version {version}, but this version of noskgpt reads "
            f"{FORMAT_VERSION}. Update noskgpt, or train new weights with "
            f"`{commands.noskgpt('train')}`."
        )
        raise CheckpointError(msg)
    try:
        config = ModelConfig(**document["config"])
        vocabulary = check_vocabulary(document["vocabulary"])
        training = _read_record(document["training"])
        weights = document["weights"]
        _check_weights(config, vocabulary, weights)
        words = _load_lexicon(vocabulary, document.get("lexicon"))
        casts = document.get("casts")
        casts = None if casts is None else scene.from_values(casts)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        msg = f"{path}: damaged noskGPT weights file ({brief(error)}). {weights_advice(path)}"
        raise CheckpointError(msg) from error
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        weights=weights,
        training=training,
        lexicon=words,
        casts=casts,
    )


def read_document(
    path: Path, *, limit: int = MAX_WEIGHTS_BYTES, remedy: str | None = None
) -> dict[str, Any]:
    """Load a `torch.save` file of plain values; see `noskgpt.archive`.

    Args:
        path: The file.
        limit: Its maximum size in bytes.
        remedy: What an error advises; None selects `weights_advice`.

    Raises:
        CheckpointError: The file is missing, unreadable, too large or damaged, or is not a mapping.
    """
    remedy = remedy or weights_advice(path)
    try:
        document = archive.read(path, limit)
    except FileNotFoundError as error:
        msg = f"{path}: the file does not exist. {remedy}"
        raise CheckpointError(msg) from error
    except PermissionError as error:
        msg = (
            f"{path}: cannot be read ({error.strerror}). "
            "Let this user read it, or choose another file."
        )
        raise CheckpointError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}). {remedy}"
        raise CheckpointError(msg) from error
    except Exception as error:  # a damaged archive can raise almost any exception class
        msg = f"{path}: damaged, truncated, or not a weights file ({brief(error)}). {remedy}"
        raise CheckpointError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path}: not a noskGPT weights file. {remedy}"
        raise CheckpointError(msg)
    return dict(document)


def check_vocabulary(vocabulary: object) -> str:
    """Return a vocabulary; raise `ValueError` unless it is one, and can be printed."""
    if type(vocabulary) is not str or "\0" in vocabulary:
        msg = "the vocabulary is not a text"
        raise ValueError(msg)
    vocabulary.encode()  # a surrogate cannot be
    return Tokenizer(vocabulary).vocabulary


def _read_record(values: Mapping[str, Any]) -> TrainingRecord:
    """Return the record in a file; raise `ValueError` if a value has a wrong type.

    Ignores values that only a later version knows.
    """
    known = {name: values[name] for name in _RECORD_TYPES if name in values}
    for name, value in known.items():
        if value is not None and not _IS_VALID[_RECORD_TYPES[name]](value):
            msg = f"the record of the training has a wrong value of {name}"
            raise ValueError(msg)
    return TrainingRecord(**known, curve=read_curve(values.get("curve", ())))


def read_curve(points: object) -> tuple[tuple[int, float, float | None], ...]:
    """Return the curve of a record; raise `ValueError` unless it is one."""
    if not isinstance(points, list | tuple) or not all(map(_is_point, points)):
        msg = "the curve of the losses is damaged"
        raise ValueError(msg)
    return tuple(tuple(point) for point in points)


def _is_point(point: object) -> bool:
    if not isinstance(point, list | tuple) or len(point) != 3:  # noqa: PLR2004
        return False
    step, loss, held_out = point
    return is_integer(step) and is_finite(loss) and (held_out is None or is_finite(held_out))


def is_finite(value: object) -> bool:
    """Return whether a value is a finite number; an integer has at most 63 bits."""
    return is_integer(value) or (type(value) is float and math.isfinite(value))


def is_integer(value: object) -> bool:
    """Return whether a value is an integer of at most 63 bits, which other formats can store."""
    return type(value) is int and value.bit_length() < 64  # noqa: PLR2004


_RECORD_TYPES = {f.name: get_args(f.type)[0] for f in fields(TrainingRecord) if f.name != "curve"}
_IS_VALID: Mapping[type, Callable[[object], bool]] = {
    int: is_integer,
    float: is_finite,
    str: lambda value: type(value) is str,
}


def _check_weights(config: ModelConfig, vocabulary: str, weights: object) -> None:
    """Raise `ValueError` unless `weights` have exactly the names, shapes and types of `config`."""
    if len(vocabulary) != config.vocab_size:
        msg = f"{len(vocabulary)} symbols, but the model has {config.vocab_size}"
        raise ValueError(msg)
    if not isinstance(weights, dict):
        msg = "the weights are missing"
        raise ValueError(msg)  # noqa: TRY004  (the same error class for every kind of damage)
    expected = config.shapes
    if weights.keys() != expected.keys():
        differing = sorted(map(str, weights.keys() ^ expected.keys()))
        msg = f"missing or unexpected weights: {', '.join(differing[:3])}"
        raise ValueError(msg)
    for name, array in weights.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            msg = f"{name} is not a plain float32 tensor"
            raise ValueError(msg)
        if array.shape != expected[name]:
            msg = f"{name} has shape {array.shape}, not {expected[name]}"
            raise ValueError(msg)
        if not np.isfinite(array).all():
            msg = f"{name} has values that are not finite"
            raise ValueError(msg)


def _load_lexicon(vocabulary: str, arrays: Mapping[str, NDArray[Any]] | None) -> Lexicon | None:
    """Return the lexicon of a file, if it has one; raise `ValueError` if it is inconsistent."""
    if arrays is None:
        return None
    if any(arrays[name].size > MAX_LETTERS + 2 for name in _LEXICON_ARRAYS):
        msg = "the lexicon is too large"
        raise ValueError(msg)
    first, edges, ends = (np.ascontiguousarray(arrays[name]) for name in _LEXICON_ARRAYS)
    if ends.dtype == np.bool_:
        ends = ends.view(np.uint8) != 0  # compiled loops know no other truth than 1
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
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        msg = (
            f"{old}: not a state_dict of the original noskGPT ({brief(error)}). "
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


def _convert_reference(
    source: Mapping[str, NDArray[Any]], config: ModelConfig
) -> dict[str, NDArray[np.float32]]:
    """Rename the weights of the reference and concatenate its per-head matrices."""
    # Many tensors of a file can share the same elements, and each is copied.
    if any(array.size > 4 * config.n_embd**2 for array in source.values()):
        msg = "a tensor is too large"
        raise ValueError(msg)
    weights = {
        "token_embedding.weight": source["token_embedding_table.weight"],
        "position_embedding.weight": source["position_embedding_table.weight"],
    }
    linear_pairs = {"feed_forward": "feedforward"}
    for i in range(config.n_layer):
        old, new = f"transformer_blocks.{i}", f"blocks.{i}"
        for part in ("query", "key", "value"):
            weights[f"{new}.attention.{part}.weight"] = np.concatenate(
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
    return {name: np.array(array, np.float32) for name, array in weights.items()}
