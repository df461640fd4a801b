"""Constrain sampling to real words and to the cast of a scene, and repeat words of the prompt.

The functions are compiled with numba if it is available and run as plain Python if not, with the
same result. With no option on, `choose` samples from the model's own distribution.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noskgpt.inference.jit import compiled
from noskgpt.inference.sampling import Sampling, advance, allow_real_words, draw

Array = NDArray[Any]

OTHER, NEWLINE, SPACE, COLON, HYPHEN, CAPITAL, SMALL = range(7)
"""Kinds of symbols; a letter without another case in the vocabulary is small."""

BLANK, TITLE, WORDS = range(3)
"""Kinds of lines: without words, with capitalised words only, with others."""

(
    AT,  # index of the next symbol in a speaker line; -1 in a speech
    SPEAKER,  # row of the last speaker; -1 if there is none
    NEXT,  # row of the person who speaks next; -1 if it may be anybody
    LINE,  # kind of the line so far
    LETTERS,  # number of letters in the word so far
    SPOKEN,  # whether the speech has words
    FORCED,  # number of the forced symbols that are generated
    BOUNDARY,  # whether the next symbol must not continue a word
    CHOSEN,  # whether the play is chosen
    FIELDS,
) = range(10)
"""Indices of `Constraints.state`."""

REST_ALL, REST_SAME = 3, 12
"""Words between two repeated words, and between two uses of the same."""


GUEST_BEHIND = 1.0
"""How far the logit of a guest's first letter is behind the best, in nats; see `Cast.guests`."""


class Cast(NamedTuple):
    """Store the speakers who may speak; S of them, from P plays. Without any there is no cast."""

    names: Any  # (S, L) int64: speaker lines with the colon and line break, padded with -1
    plays: Any  # (P, S) bool: the cast of each play
    home: Any  # (S,) int64: the play in which the person has most speeches; -1 if in none
    member: Any  # (S,) bool, state: the cast of the scene
    alive: Any  # (S,) bool, state: the speakers whose name begins as the line
    guests: Any  # (G,) int64: rows of speakers whom the play does not have, and who are favoured


class Echo(NamedTuple):
    """Store the words to repeat: W of at most K letters."""

    words: Any  # (W, K) int64: letter ids, padded with -1
    begin: float
    """What the logit of a word's first letter gains; it may rise to the best logit."""
    along: float
    """What the logit of a further letter gains, times the number of letters before it."""
    over: float
    """How far it may rise above the best logit, times the number of letters before it."""
    within: float
    """How far below the best logit a letter that decides on the word may be: a word comes only
    where the model might place it."""
    deciding: Any  # (W,) int64: all letters of a word that the model knows, else the first ones
    fade: float
    """A gain is divided by 1 plus this times the number of uses."""
    alive: Any  # (W,) bool, state: the words that begin as the partial word
    uses: Any  # (W,) int64, state
    rest: Any  # (W,) int64, state: number of words to wait
    logits: Any  # (V,) float32, scratch


class Constraints(NamedTuple):
    """Store the options of one request and their state."""

    active: bool
    """Whether any option is on, so that the last word of the prompt is complete."""
    real_words: bool
    """Whether to generate only words of the lexicons."""
    keep_cast: bool
    """Whether only the cast speaks."""
    kinds: Any  # (V,) int64: the kind of each symbol
    forced: Any  # (F,) int64: the symbols that the text begins with
    state: Any  # (FIELDS,) int64
    cast: Cast
    echo: Echo


@compiled
def _others(constraints: Constraints) -> bool:
    """Return whether anybody but the last speaker can speak."""
    member, speaker = constraints.cast.member, constraints.state[SPEAKER]
    for row in range(member.shape[0]):  # noqa: SIM110 - numba has no generators in `any`
        if member[row] and row != speaker:
            return True
    return False


@compiled
def begin_speaker_line(constraints: Constraints) -> None:
    """Begin a speaker line: the person addressed may speak, else all but the last speaker."""
    state, cast = constraints.state, constraints.cast
    state[AT] = 0
    for row in range(cast.member.shape[0]):
        cast.alive[row] = cast.member[row] and row != state[SPEAKER]
    if state[NEXT] >= 0:
        cast.alive[:] = False
        cast.alive[state[NEXT]] = True
        state[NEXT] = -1


@compiled
def _end_speaker_line(constraints: Constraints) -> None:
    """Begin the speech of the person who is alive; the first one chooses the play."""
    state, cast = constraints.state, constraints.cast
    state[SPEAKER] = -1
    for row in range(cast.alive.shape[0]):
        at = state[AT]
        if cast.alive[row] and (at == cast.names.shape[1] or cast.names[row, at] < 0):
            state[SPEAKER] = row
    speaker = state[SPEAKER]
    if speaker >= 0 and not state[CHOSEN] and cast.home[speaker] >= 0:
        cast.member[:] = cast.plays[cast.home[speaker]]
        state[CHOSEN] = 1
    state[AT] = -1
    state[SPOKEN] = 0


@compiled
def _follow_speaker_line(constraints: Constraints, symbol: int) -> None:
    state, cast = constraints.state, constraints.cast
    for row in range(cast.alive.shape[0]):
        if cast.alive[row]:
            at = state[AT]
            cast.alive[row] = at < cast.names.shape[1] and cast.names[row, at] == symbol
    state[AT] += 1


@compiled
def _follow_echo(constraints: Constraints, letter: int) -> None:
    """Update the words to repeat after a letter, or after the end of a word if it is -1."""
    echo, letters = constraints.echo, constraints.state[LETTERS]
    count, longest = echo.words.shape
    if letter >= 0:
        for w in range(count):
            fits = letters < longest and echo.words[w, letters] == letter
            echo.alive[w] = echo.alive[w] and fits
        return
    repeated = False
    for w in range(count):
        echo.rest[w] = max(echo.rest[w] - 1, 0)
        if echo.alive[w] and (letters == longest or echo.words[w, letters] < 0):
            echo.uses[w] += 1
            echo.rest[w] = REST_SAME
            repeated = True
    for w in range(count):
        echo.alive[w] = True
        if repeated:
            echo.rest[w] = max(echo.rest[w], REST_ALL)


@compiled
def _follow_line(constraints: Constraints, kind: int, begins: bool) -> None:  # noqa: FBT001
    """Update the line of a speech; `begins` says whether a letter would begin a word."""
    state = constraints.state
    if kind == NEWLINE:
        if state[LINE] == BLANK and state[SPOKEN] and _others(constraints):
            begin_speaker_line(constraints)
        state[LINE] = BLANK
    elif kind != SPACE:
        state[SPOKEN] = 1
        if begins and kind == SMALL:
            state[LINE] = WORDS
        elif state[LINE] == BLANK:
            state[LINE] = TITLE


@compiled
def follow(sampling: Sampling, constraints: Constraints, symbol: int) -> None:
    """Update the state after `symbol`."""
    state = constraints.state
    kind = constraints.kinds[symbol]
    letter = sampling.lexicons[0].letters[symbol]
    apostrophe = letter == sampling.lexicons[0].apostrophe
    state[BOUNDARY] = 0
    if constraints.real_words:
        advance(sampling, symbol)
    if state[AT] >= 0:
        _follow_speaker_line(constraints, symbol)
        if kind == NEWLINE:
            _end_speaker_line(constraints)
            state[LINE] = BLANK
        state[LETTERS] = 0
        return
    begins = state[LETTERS] == 0
    _follow_line(constraints, kind, begins)
    if letter >= 0 and not (apostrophe and begins):
        _follow_echo(constraints, letter)
        state[LETTERS] += 1
    elif not begins:
        _follow_echo(constraints, -1)
        state[LETTERS] = 0


@compiled
def _restrict(sampling: Sampling, constraints: Constraints) -> None:
    """Set `allowed` to the symbols that the constraints allow; to all if they allow none."""
    state, cast, allowed = constraints.state, constraints.cast, sampling.allowed
    allowed[:] = True
    if state[AT] >= 0 and constraints.keep_cast:
        allowed[:] = False
        for row in range(cast.alive.shape[0]):
            if cast.alive[row]:
                allowed[cast.names[row, state[AT]]] = True
        return
    if constraints.real_words:
        allow_real_words(sampling)
    ends_speech = state[SPOKEN] and _others(constraints) if state[LINE] == BLANK else True
    none_allowed = True
    for symbol in range(allowed.shape[0]):
        kind = constraints.kinds[symbol]
        if state[BOUNDARY] and (sampling.lexicons[0].letters[symbol] >= 0 or kind == HYPHEN):
            allowed[symbol] = False
        if constraints.keep_cast and (
            # A speech has words, and no line of it looks like a speaker line.
            (kind == NEWLINE and not ends_speech) or (kind == COLON and state[LINE] == TITLE)
        ):
            allowed[symbol] = False
        none_allowed = none_allowed and not allowed[symbol]
    if none_allowed:
        allowed[:] = True


@compiled
def _favour_guests(logits: Array, constraints: Constraints) -> bool:
    """Write logits of a speaker line that favour the guests to `echo.logits`, or return False.

    The model hardly ever chooses a name that it has not read. The first letter of a guest's name
    gets a logit a little below the best of a name, the others get the best.
    """
    state, cast, echo = constraints.state, constraints.cast, constraints.echo
    at = state[AT]
    if cast.guests.shape[0] == 0:
        return False
    best = np.float32(-np.inf)
    for row in range(cast.alive.shape[0]):
        if cast.alive[row]:
            best = max(best, logits[cast.names[row, at]])
    changed = False
    for row in cast.guests:
        if cast.alive[row]:
            if not changed:
                changed = True
                echo.logits[:] = logits
            symbol = cast.names[row, at]
            gain = np.float32(0 if at else GUEST_BEHIND)
            echo.logits[symbol] = max(echo.logits[symbol], best - gain)
    return changed


@compiled
def _favour(logits: Array, sampling: Sampling, constraints: Constraints) -> bool:
    """Write logits that favour guests and words to repeat; return whether there are any.

    They are written to `echo.logits`.
    """
    state, echo = constraints.state, constraints.echo
    if state[AT] >= 0:
        return constraints.keep_cast and _favour_guests(logits, constraints)
    if state[BOUNDARY]:
        return False
    letters = state[LETTERS]
    longest = echo.words.shape[1]
    changed = False
    best = np.float32(0)
    for w in range(echo.words.shape[0]):
        ended = letters == longest or echo.words[w, min(letters, longest - 1)] < 0
        if not echo.alive[w] or echo.rest[w] > 0 or ended:
            continue
        if not changed:
            changed = True
            echo.logits[:] = logits
            best = logits.max()
        fade = np.float32(1 + echo.fade * echo.uses[w])
        gain = np.float32(echo.along * letters if letters else echo.begin) / fade
        limit = best + np.float32(echo.over * letters)
        lowest = best - np.float32(echo.within if letters < echo.deciding[w] else np.inf)
        for symbol in range(logits.shape[0]):
            fits = sampling.lexicons[0].letters[symbol] == echo.words[w, letters]
            # The model chooses the case of the first letter only.
            if (
                fits
                and logits[symbol] >= lowest
                and (letters == 0 or constraints.kinds[symbol] == SMALL)
            ):
                raised = min(logits[symbol] + gain, limit)
                echo.logits[symbol] = max(echo.logits[symbol], raised)
    return changed


@compiled
def choose(logits: Array, sampling: Sampling, constraints: Constraints, uniform: float) -> int:
    """Sample a symbol that the constraints allow, and update their state.

    Args:
        logits: (V,) float32; unchanged.
        sampling: See `Sampling`.
        constraints: See `Constraints`.
        uniform: A number in [0, 1).
    """
    state, echo = constraints.state, constraints.echo
    sampling.allowed[:] = True
    if not constraints.active:
        return draw(logits, sampling, uniform)
    if state[FORCED] < constraints.forced.shape[0]:
        symbol = constraints.forced[state[FORCED]]
        state[FORCED] += 1
    else:
        favoured = _favour(logits, sampling, constraints)
        used = echo.logits if favoured else logits
        symbol = draw(used, sampling, uniform)
        _restrict(sampling, constraints)
        if not sampling.allowed[symbol]:
            symbol = draw(used, sampling, uniform)
    follow(sampling, constraints, symbol)
    return int(symbol)
