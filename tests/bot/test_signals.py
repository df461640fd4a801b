"""Signals that come while another one is handled."""

from tests.bot.process import run_program

INTERRUPTED = """
import asyncio, signal, sys
import bot.signals

bot.signals.END_SECONDS = 3600

async def main():
    signals = bot.signals.Signals()
    for number in range(1, 60):
        calls = 0

        def interrupt(frame, event, argument):
            nonlocal calls
            if event in {"call", "c_call"}:
                calls += 1
                if calls == number:
                    signal.raise_signal(signal.SIGINT)

        signals._count = 0
        sys.setprofile(interrupt)
        signal.raise_signal(signal.SIGTERM)
        sys.setprofile(None)
        assert signals._count == 2 or calls < number, signals._count
    assert calls < number, "too few interruptions"

asyncio.run(main())
"""


def test_signal_that_interrupts_the_handling_of_another_one_does_not_hang() -> None:
    # At each call of the handler in turn: it may be the one that holds a lock.
    assert run_program(INTERRUPTED) == (0, "")
