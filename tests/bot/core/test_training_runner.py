"""Which weights speak, and what becomes of runs: the services, on real weights and files."""

import asyncio
import dataclasses
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from discord import ButtonStyle
from discord.ui import Button, DynamicItem

from bot.concurrency import Threads
from bot.core.inference import Inference
from bot.core.promotions import Promotions, weights_path
from bot.core.training_runner import TrainingRequest, TrainingRunner, is_better
from bot.errors import Reason, RejectedError, StartupError
from bot.storage.database import open_database
from bot.storage.runs import Run, RunStore
from bot.ui.training_status import decision_view, describe_losses
from noskgpt import checkpoint as checkpoints
from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.model import GPT, ModelConfig
from noskgpt.tokenizer import VOCABULARY
from noskgpt.training.run_files import run_path
from tests.bot.conftest import rejected

ANN, BEN = 11, 12
ORDER = TrainingRequest(user_id=ANN, guild_id=1, channel_id=2, preset="quick", minutes=30)


class School:
    """The services of training, as `bot.bard` opens them."""

    def __init__(
        self,
        runs: RunStore,
        weights: Path,
        folder: Path,
        threads: Threads,
        *,
        keep: int = 5,
        auto_promote: bool = False,
    ) -> None:
        self.runs = runs
        self.folder = folder
        self.threads = threads
        self.generation = Inference(weights, workers=1)
        self.succession = Promotions(runs, self.generation, folder)
        self.training = TrainingRunner(
            runs,
            self.succession,
            self.generation,
            threads,
            folder=folder,
            corpus=None,
            keep=keep,
            auto_promote=auto_promote,
        )

    async def found(self, checkpoint: Checkpoint, *, corpus: str | None = None) -> Run:
        """Have the bot find a run that finished while nobody followed it."""
        run = await self.begin(corpus=corpus)
        await asyncio.to_thread(checkpoints.save, checkpoint, weights_path(self.folder, run.id))
        found = await self.training.recover()
        assert found is not None
        assert found.id == run.id
        return found

    async def begin(self, *, corpus: str | None = None) -> Run:
        return await self.runs.start(
            user_id=ANN, guild_id=1, channel_id=2, preset="quick", minutes=1, corpus=corpus
        )

    @property
    def speaks(self) -> str:
        return self.generation.model.name

    async def anew(self) -> "School":
        """Return what a new process would have."""
        other = School(self.runs, self.generation._path or Path(), self.folder, self.threads)
        await self.generation.close()
        await other.succession.load()
        return other


def trained(
    seed: int, loss: float | None = None, corpus: str | None = "a", vocabulary: str = VOCABULARY
) -> Checkpoint:
    """Return weights of a small real model that say of themselves how they were measured."""
    torch.manual_seed(seed)
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, vocab_size=len(vocabulary))
    model = GPT(config)
    model.round_to_bfloat16()
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        weights=model.state_dict(),
        lexicon=lexicon.build(vocabulary, lexicon.words("but soft, what light is this?")),
        training=TrainingRecord(steps=7, held_out_loss=loss, corpus_sha256=corpus),
    )


def name_of(checkpoint: Checkpoint) -> str:
    return f"noskgpt-{checkpoint.fingerprint()}"


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[RunStore]:
    async with open_database(tmp_path / "bard.sqlite3") as connection:
        yield RunStore(connection)


@pytest.fixture
async def school(runs: RunStore, tmp_path: Path, threads: Threads) -> AsyncIterator[School]:
    """A school whose settings' weights were measured at 2.0 on the text "a"."""
    checkpoints.save(trained(1, 2.0), tmp_path / "own.pth")
    school = School(runs, tmp_path / "own.pth", tmp_path / "runs", threads, keep=2)
    await school.succession.load()
    yield school
    await school.training.close()
    await school.generation.close()


async def test_goes_back_step_by_step(school: School) -> None:
    own = school.speaks
    made = [trained(seed) for seed in (2, 3)]
    for checkpoint in made:
        run = await school.found(checkpoint)
        assert run.state == "finished"
        assert school.speaks != name_of(checkpoint)
        await school.succession.promote(run.id, ANN)
        assert school.speaks == name_of(checkpoint)
    with rejected(Reason.RUN_PROMOTED_ALREADY):
        await school.succession.promote(2, ANN)
    school = await school.anew()
    assert school.speaks == name_of(made[1])
    back = await school.succession.roll_back(BEN)
    assert back is not None
    assert (back.id, school.speaks) == (1, name_of(made[0]))
    school = await school.anew()
    assert school.speaks == name_of(made[0])
    assert await school.succession.roll_back(BEN) is None
    assert school.speaks == own
    with rejected(Reason.NOTHING_TO_ROLL_BACK):
        await school.succession.roll_back(BEN)
    await school.succession.promote(1, BEN)
    assert school.speaks == name_of(made[0])
    await school.generation.close()


async def test_request_under_way_ends_on_the_weights_it_began_with(school: School) -> None:
    run = await school.found(trained(2))
    old = school.speaks
    request = asyncio.create_task(
        school.generation.generate("ROMEO:\n", max_chars=4000, temperature=0.8, seed=1)
    )
    await asyncio.sleep(0)
    await school.succession.promote(run.id, ANN)
    assert (await request).weights == old
    after = await school.generation.generate("ROMEO:\n", max_chars=4, temperature=0.8)
    assert after.weights == run.weights


async def test_another_alphabet_goes_on_with_what_was_said(school: School) -> None:
    run = await school.found(trained(2, vocabulary="\n abcdefghijklmnopqrstuvwxyz"))
    await school.succession.promote(run.id, ANN)
    result = await school.generation.generate("ROMEO:\nO, she", max_chars=40, temperature=0.8)
    assert len(result.text) == 40
    assert set(result.text) <= set(school.generation.model.tokenizer.vocabulary)
    assert school.generation.fold("ROMEO: 😀") == ("romeo ", ":😀")


async def damage(path: Path) -> None:
    data = await asyncio.to_thread(path.read_bytes)
    await asyncio.to_thread(path.write_bytes, data[: len(data) // 2])


async def test_damaged_weights_do_not_speak(school: School) -> None:
    own = school.speaks
    run = await school.found(trained(2))
    await damage(weights_path(school.folder, run.id))
    with rejected(Reason.RUN_DAMAGED, run_id=run.id):
        await school.succession.promote(run.id, ANN)
    checkpoints.save(trained(3), weights_path(school.folder, run.id))
    with rejected(Reason.RUN_DAMAGED, run_id=run.id):
        await school.succession.promote(run.id, ANN)
    assert school.speaks == own
    assert await school.runs.promotions() == []
    with rejected(Reason.UNKNOWN_RUN, run_id=9):
        await school.succession.promote(9, ANN)


async def test_damaged_weights_keep_the_bot_from_nothing_but_themselves(
    school: School, caplog: pytest.LogCaptureFixture
) -> None:
    made = [trained(seed) for seed in (2, 3)]
    for checkpoint in made:
        run = await school.found(checkpoint)
        await school.succession.promote(run.id, ANN)
    await damage(weights_path(school.folder, 2))
    school = await school.anew()
    assert school.speaks == name_of(made[0])
    assert "weights of run 2" in caplog.text
    weights_path(school.folder, 1).unlink()
    school = await school.anew()
    assert school.speaks == name_of(trained(1, 2.0))
    assert await school.runs.promotions() == []
    await school.generation.close()
    missing = School(school.runs, Path("missing.pth"), school.folder, school.threads)
    with pytest.raises(StartupError, match=r"missing\.pth"):
        await missing.succession.load()
    await missing.generation.close()


async def test_rollback_passes_over_what_is_damaged(school: School) -> None:
    own = school.speaks
    for seed in (2, 3):
        run = await school.found(trained(seed))
        await school.succession.promote(run.id, ANN)
    await damage(weights_path(school.folder, 1))
    assert await school.succession.roll_back(ANN) is None
    assert school.speaks == own


@pytest.mark.parametrize(
    ("checkpoint", "corpus", "comparable", "promoted"),
    [
        (trained(2, 1.9), None, True, True),
        (trained(2, 2.0), None, True, False),
        (trained(2, 2.1), None, True, False),
        (trained(2, 1.9, corpus="b"), None, False, False),
        (trained(2, 1.9), "mine.txt", False, False),
        (trained(2, None), None, True, False),
    ],
    ids=["lower", "equal", "higher", "other text", "attached text", "not measured"],
)
async def test_takes_over_by_itself_only_if_better_on_the_same_text(
    school: School, checkpoint: Checkpoint, corpus: str | None, *, comparable: bool, promoted: bool
) -> None:
    for auto_promote in (False, True):
        school.training._auto_promote = auto_promote
        run = await school.found(checkpoint, corpus=corpus)
        assert run.old_weights == name_of(trained(1, 2.0))
        assert (run.old_loss is not None) == comparable
        assert is_better(run) == promoted
        assert (school.speaks == run.weights) == (promoted and auto_promote)


async def test_old_runs_go_except_those_in_use(school: School) -> None:
    first = await school.found(trained(2))
    await school.succession.promote(first.id, ANN)
    for seed in (3, 4, 5):
        await school.found(trained(seed))
    unfinished = await school.begin()
    folder = weights_path(school.folder, unfinished.id).parent
    await asyncio.to_thread(folder.mkdir)
    run_path(weights_path(school.folder, unfinished.id)).write_bytes(b"")
    (school.folder / "notes").mkdir()
    await school.runs.end(unfinished.id, "cancelled")
    await school.training._delete_old_files()
    assert sorted(path.name for path in school.folder.iterdir()) == ["1", "4", "5", "notes"]
    with rejected(Reason.RUN_DAMAGED, run_id=2):
        await school.succession.promote(2, ANN)


async def test_discarded_is_gone_but_not_what_is_in_use(school: School) -> None:
    first, second = [await school.found(trained(seed)) for seed in (2, 3)]
    await school.succession.promote(first.id, ANN)
    with rejected(Reason.RUN_IN_USE):
        await school.training.discard(first.id)
    await school.training.discard(second.id)
    assert [path.name for path in school.folder.iterdir()] == ["1"]
    for refused in (school.training.discard(second.id), school.succession.promote(second.id, ANN)):
        with rejected(Reason.RUN_NOT_FINISHED, state="discarded"):
            await refused


async def test_one_run_at_a_time_is_kept_by_the_database(school: School) -> None:
    begun = await asyncio.gather(
        *(school.training.start(ORDER) for _ in range(3)), return_exceptions=True
    )
    (live,) = (one for one in begun if not isinstance(one, BaseException))
    assert [one.reason for one in begun if isinstance(one, RejectedError)] == [
        Reason.RUN_ACTIVE
    ] * 2
    with pytest.raises(RejectedError):
        await school.begin()
    await school.training.close()
    assert live.ended.result().state == "interrupted"
    with pytest.raises(sqlite3.IntegrityError):
        await school.runs._write(
            "INSERT INTO runs (user_id, preset, minutes, started_at)"
            " VALUES (1, 'quick', 1, 0), (1, 'quick', 1, 0)",
            (),
        )


async def test_child_that_talks_nonsense(
    school: School, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["gar{bage", "[1]", "7", '{"event": "progress"}', '{"event": "error"}']
    endless = "print('x' * 2**21)"
    program = f"print({chr(10).join(lines)!r}); {endless}; raise SystemExit(3)"
    pipe = asyncio.subprocess.PIPE

    async def spawn(*_: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=pipe, stdout=pipe
        )

    monkeypatch.setattr(school.training, "_spawn", spawn)
    live = await school.training.start(ORDER)
    run = await live.ended
    assert run.state == "failed"
    assert "exit code 3" in (run.problem or "")
    assert caplog.text.count("ignored an invalid event") >= len(lines)
    assert "too long" in caplog.text
    assert school.training.active is None


async def test_folder_that_cannot_be_written(school: School) -> None:
    school.folder.write_text("not a folder")
    with rejected(Reason.RUN_NOT_STARTED):
        await school.training.start(ORDER)
    (run,) = await school.runs.newest()
    assert run.state == "failed"
    assert run.problem is not None


async def test_what_is_said_of_people_and_servers_can_be_forgotten(school: School) -> None:
    run = await school.found(trained(2))
    await school.runs.set_message(run.id, 2, 3)
    await school.succession.promote(run.id, ANN)
    await school.succession.roll_back(BEN)
    await school.runs.delete_user(ANN)
    await school.runs.delete_user(BEN)
    await school.runs.delete_guild(1)
    kept = await school.runs.get(run.id)
    assert kept == dataclasses.replace(
        run, user_id=0, guild_id=None, channel_id=None, message_id=None
    )
    ((by, withdrawn_by),) = await school.runs._connection.execute_fetchall(
        "SELECT user_id, withdrawn_by FROM promotions"
    )
    assert (by, withdrawn_by) == (0, 0)


def tuned(seed: int, start: str | None, before: float, after: float, part: float = 1) -> Checkpoint:
    """Return weights whose record says that they were trained from others on the text "a"."""
    checkpoint = trained(seed, after)
    record = dataclasses.replace(
        checkpoint.training,
        start_weights=start,
        start_loss=before,
        held_out_characters=1000,
        evaluated_characters=round(1000 * part),
    )
    return dataclasses.replace(checkpoint, training=record)


@pytest.mark.parametrize("corpus", [None, "mine.txt"])
@pytest.mark.parametrize("part", [1, 0.5])
@pytest.mark.parametrize(("after", "better"), [(1.4, True), (1.5, False), (1.6, False)])
async def test_run_from_the_active_weights_is_compared_with_their_loss_before(
    school: School, corpus: str | None, part: float, after: float, *, better: bool
) -> None:
    school.training._auto_promote = True
    run = await school.found(tuned(2, school.speaks, 1.5, after, part), corpus=corpus)
    assert (run.start_loss, run.old_loss, run.loss) == (1.5, 1.5, after)
    assert run.evaluated_fraction == part
    assert is_better(run) == better
    assert (school.speaks == run.weights) == better
    shown = describe_losses(run)
    assert "1.500 before" in shown
    assert ("Warning" in shown) == (not better)
    assert ("on the first 50.0% of the held-out text" in shown) == (part < 1)
    assert_styles(run, green=better)


async def test_loss_over_a_part_is_not_compared_with_one_over_the_whole(school: School) -> None:
    from_nothing = dataclasses.replace(
        tuned(2, None, 0, 1.0, 0.5).training, start_weights=None, start_loss=None
    )
    run = await school.found(dataclasses.replace(trained(2), training=from_nothing))
    assert (run.loss, run.old_loss) == (1.0, None)
    assert "nothing shows that the new weights are better" in describe_losses(run)
    assert_styles(run, green=False)


async def test_loss_in_another_alphabet_is_not_compared(school: School) -> None:
    run = await school.found(trained(2, 1.0, vocabulary="\n abcdefghijklmnopqrstuvwxyz"))
    assert (run.loss, run.old_loss) == (1.0, None)


async def test_start_weights_that_are_not_active_any_more_are_no_comparison(
    school: School,
) -> None:
    run = await school.found(tuned(2, "noskgpt-00000000", 1.5, 1.4), corpus="mine.txt")
    assert (run.start_weights, run.start_loss, run.old_loss) == ("noskgpt-00000000", 1.5, None)
    assert not is_better(run)


def assert_styles(run: Run, *, green: bool) -> None:
    view = decision_view(run)
    assert view is not None
    promote, discard = [item.item for item in view.children if isinstance(item, DynamicItem)]
    assert isinstance(promote, Button)
    assert isinstance(discard, Button)
    assert (promote.style == ButtonStyle.success) == green
    assert discard.style == ButtonStyle.danger
