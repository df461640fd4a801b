"""Count what the services do, for Prometheus. docs/observability.md describes each metric.

No label has a value that comes from a member.
"""

import importlib.metadata
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from noskgpt.commands import DISTRIBUTION

from ..errors import Reason
from ..observation import Outcome, Snapshot, TrainingState

PREFIX = "noskgpt_bard_"

_ACKNOWLEDGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""In seconds, up to the time that Discord gives to an acknowledgement."""
_REPLY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics(Collector):
    """An observer of one bot, with a registry of its own.

    A host puts it into its attribute `bard_observer` before it loads the extension, and serves
    `registry`, or registers the object with a registry of its own. It may outlive the extension.

    Attributes:
        registry: What is measured.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._look: Callable[[], Snapshot] | None = None
        self._connected: Callable[[], bool] | None = None
        info = Info(f"{PREFIX}build", "Version of the bot.", registry=registry)
        info.info({"version": importlib.metadata.version(DISTRIBUTION)})
        self._requests = Counter(
            f"{PREFIX}requests_total",
            "Requests to the model that have ended, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._rejections = Counter(
            f"{PREFIX}rejections_total",
            "Rejected requests to the model, by reason.",
            ["reason"],
            registry=registry,
        )
        self._errors = Counter(
            f"{PREFIX}errors_total",
            "Failures that were answered with an error id, by the level of their log line.",
            ["level"],
            registry=registry,
        )
        self._reply_seconds = Histogram(
            f"{PREFIX}reply_seconds",
            "Seconds from a request to the model until its reply is shown.",
            buckets=_REPLY_BUCKETS,
            registry=registry,
        )
        self._acknowledge_seconds = Histogram(
            f"{PREFIX}acknowledge_seconds",
            "Seconds from an interaction until it is acknowledged.",
            buckets=_ACKNOWLEDGE_BUCKETS,
            registry=registry,
        )
        self._characters = Counter(
            f"{PREFIX}generated_characters_total", "Generated characters.", registry=registry
        )
        self._generation_seconds = Counter(
            f"{PREFIX}generation_seconds_total",
            "Seconds in which workers generated.",
            registry=registry,
        )
        self._lag = Histogram(
            f"{PREFIX}event_loop_lag_seconds",
            "Seconds by which the event loop is late. Measured each second while /metrics is on.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        # A series that is missing until its first event would have no increase at that event.
        for outcome in Outcome:
            self._requests.labels(outcome)
        for reason in Reason:
            self._rejections.labels(reason.name.lower())
        for level in ("info", "warning", "error"):
            self._errors.labels(level)
        registry.register(_State(self))

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, for a registry of the host. Callable in any thread."""
        yield from self.registry.collect()

    def watch(self, look: Callable[[], Snapshot] | None) -> None:
        """See `Observer.watch`."""
        self._look = look

    def watch_connection(self, connected: Callable[[], bool]) -> None:
        """Take the function that returns whether Discord is connected, from any thread."""
        self._connected = connected

    def add_process(self) -> None:
        """Measure memory, processor time and open files of this process too, on Linux."""
        ProcessCollector(registry=self.registry)

    def request_ended(self, outcome: Outcome, seconds: float) -> None:
        """See `Observer.request_ended`."""
        self._requests.labels(outcome).inc()
        if outcome == Outcome.REPLIED:
            self._reply_seconds.observe(seconds)

    def rejected(self, reason: str) -> None:
        """See `Observer.rejected`."""
        self._rejections.labels(reason).inc()

    def acknowledged(self, seconds: float) -> None:
        """See `Observer.acknowledged`."""
        self._acknowledge_seconds.observe(seconds)

    def generated(self, characters: int, seconds: float) -> None:
        """See `Observer.generated`."""
        self._characters.inc(characters)
        self._generation_seconds.inc(seconds)

    def failed(self, level: str) -> None:
        """See `Observer.failed`."""
        self._errors.labels(level).inc()

    def lagged(self, seconds: float) -> None:
        """Take the time by which the event loop was late."""
        self._lag.observe(seconds)

    def state(self) -> Iterator[Metric]:
        """Yield what is looked up at the moment of a scrape."""
        if self._connected is not None:
            yield _gauge(
                "connected", "Whether Discord is connected: 1 or 0.", float(self._connected())
            )
        look = self._look
        if look is not None:
            yield from _metrics_of(look())


class _State(Collector):
    """Looks up the state of the services at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the moment."""
        return self._metrics.state()

    def describe(self) -> list[Metric]:
        """Return nothing: a registration must not look at services that are not open yet."""
        return []


def _metrics_of(now: Snapshot) -> Iterator[Metric]:
    weights = InfoMetricFamily(f"{PREFIX}weights", "The active weights.")
    weights.add_metric([], {"name": now.weights})
    yield weights
    yield _gauge("requests_waiting", "Requests that wait for a worker.", now.waiting)
    yield _gauge("requests_running", "Requests that have a worker.", now.running)
    if now.database_bytes is not None:
        yield _gauge(
            "database_bytes", "Size of the database with its write-ahead log.", now.database_bytes
        )
    training = now.training
    states = GaugeMetricFamily(
        f"{PREFIX}training_state", "1 for the present state of the training.", labels=["state"]
    )
    for state in TrainingState:
        states.add_metric([state], float(state == training.state))
    yield states
    for name, description, value in (
        ("training_step", "Step of the active training run.", training.step),
        ("training_steps", "Planned steps of the active training run.", training.steps),
        ("training_loss", "Training loss, in nats per character.", training.train_loss),
        ("training_held_out_loss", "Held-out loss, in nats per character.", training.held_out_loss),
    ):
        if value is not None:
            yield _gauge(name, description, value)


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", description, value=value)
