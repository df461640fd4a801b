"""Log a problem once, however often it is met again."""

import logging


class Complaints:
    """Log problems, but not one that was the last one, too.

    Args:
        log: The logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last = ""

    def met(self, text: str, *values: object, level: int = logging.WARNING) -> None:
        """Log a problem, given a text and its values as for `logging.Logger.log`."""
        problem = text % values
        if problem != self._last:
            self._last = problem
            self._log.log(level, text, *values, stacklevel=2)

    def over(self) -> None:
        """Log the last problem again if it is met again."""
        self._last = ""
