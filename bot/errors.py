"""What can go wrong that a person should read as one line."""


class StartupError(Exception):
    """The bot cannot start; the message is one line that says why and what to do."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RefusedError(Exception):
    """A request that is not taken on; the message is shown to the user as it is."""


class StoppedError(Exception):
    """A request that somebody stopped: nothing of it is kept."""


class SceneError(Exception):
    """A request that a scene cannot fulfil; the message is shown to the user as it is."""
