"""What every peer is loaded with. The only file here that knows the flags of `ringmq bench` and the names in its report."""

from dataclasses import dataclass, field

ASYNC, SYNC = "async", "sync"
MODES = (ASYNC, SYNC)

# The same for all: bodies of 1 KiB, JSON headers and properties as the Java client sends them, one topic of 8 queues.
SHAPE = ["--size", "1024", "--header", "json", "--queues", "8"]

@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    modes: tuple
    # What is run first and not measured, and what is: arguments of `ringmq bench`, without the common ones.
    before: list = field(default_factory=list)
    measured: list = field(default_factory=list)
    # Messages a second that are asked for; None in a closed loop.
    rate: int | None = None


def closed(connections, in_flight):
    return ["send", *SHAPE, "--connections", str(connections), "--closed", str(in_flight)]


def opened(rate):
    return ["send", *SHAPE, "--connections", "32", "--in-flight", "64", "--rate", str(rate)]


# The newest messages of each queue, few enough to lie in every peer's memory: RingMQ keeps 16 MiB of each log's end, the
# JVM's peers the page cache. They are sent as fast as it goes: alone in its write each would fill a block of RingMQ's log.
TAIL_BEFORE = [*closed(32, 8), "--seconds", "1", "--warmup", "0"]
TAIL = ["consume", "--last", "1000", "--connections", "8", "--in-flight", "8", "--parts", "4", "--wait", "spin"]

WORKLOADS = [
    Workload("32x8", "32 x 8", MODES, measured=closed(32, 8)),
    Workload("64x16", "64 x 16", MODES, measured=closed(64, 16)),
    Workload("1x1", "1 x 1", MODES, measured=[*closed(1, 1), "--wait", "spin"]),
    Workload("20k", "20,000/s", MODES, measured=opened(20_000), rate=20_000),
    Workload("10k", "10,000/s", MODES, measured=opened(10_000), rate=10_000),
    Workload("tail", "tail read", (ASYNC,), before=TAIL_BEFORE, measured=TAIL),
]

# Before anything is measured, so that a JVM has compiled what it runs: the same messages for every peer, as many as the
# slowest nearly takes.
WARM_UP = opened(30_000)


def command(ringmq, arguments, *, broker, topic, cpu, seconds=None, warmup=None, pid=None, report=None):
    """A whole command line of the load."""
    line = [str(ringmq), "bench", *arguments, "--broker", broker, "--topic", topic, "--cpu", str(cpu)]
    if seconds is not None:
        line += ["--seconds", str(seconds)]
    if warmup is not None and arguments[0] == "send":
        line += ["--warmup", str(warmup)]
    if pid is not None:
        line += ["--watch-pid", str(pid)]
    if report is not None:
        line += ["--json", str(report)]
    return line


def figures(report):
    """The figures of a report that the tables show."""
    latency = report["latency_us"]
    return {
        "messages_per_second": report["messages_per_second"],
        "p50_us": latency["p50"],
        "p99_us": latency["p99"],
        "p999_us": latency["p999"],
        "cpu_us_per_message": report["watched_cpu_us_per_message"],
        "findings": report["findings"],
        # Why the figures are the load's own.
        "rejected": report.get("rejected", []),
        "notes": report["notes"],
    }
