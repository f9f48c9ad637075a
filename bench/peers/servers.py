"""The peers: how each is fetched, started as it is meant to be run, and stopped. README.md says why each setting is as it is."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from workloads import ASYNC

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
STOP_SECONDS = 60
SETTLE_SECONDS = 300
HEAP = "4g"


class Trouble(Exception):
    """One sentence that names the cause and the next step."""


def free_ports():
    """A name server's port and a broker's, with the ports beside it that a broker takes too (VIP and HA).

    Below those that the kernel gives to clients, above those that the tests use."""
    for base in range(31_103, 32_700, 4):
        try:
            for port in range(base - 3, base + 2):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("0.0.0.0", port))
        except OSError:
            continue
        return base - 3, base
    raise Trouble("no free ports between 31100 and 32700: stop what listens there")


class Server:
    """One broker, with its name server. Used as a context: whatever happens, what was started ends."""

    def __init__(self, peer, mode, folder, log, cpus, ringmq):
        self.peer, self.mode, self.folder, self.log, self.ringmq = peer, mode, Path(folder), Path(log), ringmq
        self.broker_cpu, self.load_cpu = cpus
        self.namesrv_port, self.port = free_ports()
        self.processes = []

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        """The broker's process, which is what the load watches."""
        return self.processes[-1].pid

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self.peer.start(self)
            self.wait("does not answer", START_SECONDS, bool)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def spawn(self, command, cpu, **env):
        with self.log.open("ab") as log:
            log.write((" ".join(map(str, command)) + "\n").encode())
            log.flush()
            # `taskset` becomes the server, so this is the server's own process id.
            self.processes.append(
                subprocess.Popen(
                    ["taskset", "-c", str(cpu), *map(str, command)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **env},
                    start_new_session=True,
                )
            )

    def status(self):
        """What the broker says of itself; nothing while it does not answer."""
        ask = [self.ringmq, "admin", "brokerStatus", "-b", self.address, "-n", f"127.0.0.1:{self.namesrv_port}"]
        done = subprocess.run(list(map(str, ask)), capture_output=True, text=True, check=False)
        pairs = (line.partition(":") for line in done.stdout.splitlines())
        return {key.strip(): value.strip() for key, _, value in pairs} if done.returncode == 0 else {}

    def wait(self, what, seconds, enough):
        """Until the broker's status is `enough`. A broker that ends, or needs longer, ends the run."""
        deadline = time.monotonic() + seconds
        while not enough(self.status()):
            for process in self.processes:
                if process.poll() is not None:
                    raise Trouble(f"{self.peer.title} has ended: read {self.log}")
            if time.monotonic() > deadline:
                raise Trouble(f"{self.peer.title} {what} within {seconds} s: read {self.log}")
            time.sleep(0.2)

    def settle(self):
        """Until what was sent is in its queues, so that one load's work is not done in the time of the next."""

        def settled(status):
            return status.get("dispatchBehindBytes") == "0"

        self.wait("has not put what was sent into its queues", SETTLE_SECONDS, settled)

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        # What one peer left to be written must not burden the next one.
        os.sync()


class RingMQ:
    name, title = "ringmq", "RingMQ"
    needs = ("taskset",)

    def fetch(self):
        """It is the program that runs the load, too."""

    def start(self, server):
        server.spawn(
            [
                server.ringmq, "standalone", "--store", server.folder / "store", "--listen", "127.0.0.1",
                "--port", server.port, "--namesrv-port", server.namesrv_port,
                "--shards", 1, "--cpus", server.broker_cpu, "--flush", server.mode,
            ],
            server.broker_cpu,
        )  # fmt: skip


def broker_settings(server):
    """What every broker that reads RocketMQ's configuration files is told."""
    store = server.folder / "store"
    return {
        "brokerClusterName": "DefaultCluster",
        "brokerName": "broker-a",
        "brokerId": 0,
        "brokerIP1": "127.0.0.1",
        "brokerRole": "ASYNC_MASTER",
        "listenPort": server.port,
        "haListenPort": server.port + 1,
        "namesrvAddr": f"127.0.0.1:{server.namesrv_port}",
        "storePathRootDir": store,
        "storePathCommitLog": store / "commitlog",
        "flushDiskType": "ASYNC_FLUSH" if server.mode == ASYNC else "SYNC_FLUSH",
        "transientStorePoolEnable": "false",
    }


def properties(path, settings):
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


class Apache:
    """Apache RocketMQ, as its `runbroker.sh` starts it on a JDK above 8, with the heap that README.md gives."""

    needs = ("taskset", "java", "mvn")

    JVM = [
        "-server", f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+AlwaysPreTouch", "-XX:MaxDirectMemorySize=15g",
        "-XX:+UseG1GC", "-XX:G1HeapRegionSize=16m", "-XX:G1ReservePercent=25",
        "-XX:InitiatingHeapOccupancyPercent=30", "-XX:SoftRefLRUPolicyMSPerMB=0",
        "-XX:-OmitStackTraceInFastThrow", "-XX:-UseLargePages",
        # The store's own way to unmap its files, which a JDK above 8 hides.
        "--add-opens", "java.base/java.nio=ALL-UNNAMED", "--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED",
        "--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED", "--add-exports", "java.base/sun.nio.ch=ALL-UNNAMED",
        # From 0.85 on it would delete the files that it has just written.
        "-Drocketmq.broker.diskSpaceWarningLevelRatio=0.98", "-Drocketmq.broker.diskSpaceCleanForciblyRatio=0.98",
    ]  # fmt: skip
    NAMESRV_JVM = ["-server", "-Xms256m", "-Xmx256m"]
    # Logging costs it, and says nothing about the broker.
    SILENT = '<configuration><root level="OFF"/></configuration>\n'
    # 4.9 looks in its home, 5.x in front of its own on the class path.
    LOGGINGS = ("logback_namesrv.xml", "logback_broker.xml", "rmq.logback.xml")

    def __init__(self, version):
        self.version = version
        self.name, self.title = f"apache-{version}", f"Apache RocketMQ {version}"
        self.jars = ROOT / "target" / "java" / f"server-{version}"

    def fetch(self):
        """By Maven, with the project that the tests use, into the place where they look too."""
        lib = self.jars / "lib"
        if (lib / f"rocketmq-broker-{self.version}.jar").exists():
            return
        print(f"fetching {self.title} by Maven", flush=True)
        command = [
            "mvn", "-B", "-q", "-f", ROOT / "tests" / "java" / "server" / "pom.xml", "compile",
            f"-Drocketmq.version={self.version}", f"-Dout={self.jars}",
        ]  # fmt: skip
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).strip().splitlines()
            said = lines[0] if lines else "mvn said nothing"
            raise Trouble(f"{self.title} could not be fetched: {said}; see whether mvn reaches its repository")

    def start(self, server):
        home = server.folder / "home"
        (home / "conf").mkdir(parents=True)
        for name in self.LOGGINGS:
            (home / "conf" / name).write_text(self.SILENT)
        namesrv, broker = home / "namesrv.conf", home / "broker.conf"
        properties(namesrv, {"listenPort": server.namesrv_port, "kvConfigPath": home / "kvConfig.json"})
        properties(broker, {**broker_settings(server), "diskMaxUsedSpaceRatio": 95})
        java = ["java", f"-Duser.home={home}", "-cp", f"{home / 'conf'}:{self.jars / 'lib'}/*"]
        env = {"ROCKETMQ_HOME": str(home)}
        server.spawn(
            [*java, *self.NAMESRV_JVM, "org.apache.rocketmq.namesrv.NamesrvStartup", "-c", namesrv],
            server.load_cpu,
            **env,
        )
        server.spawn(
            [*java, *self.JVM, "org.apache.rocketmq.broker.BrokerStartup", "-c", broker], server.broker_cpu, **env
        )


class RocketmqRust:
    """rocketmq-rust's broker, as `cargo install` builds it and with the configuration file that Apache's gets.

    Its own name server takes minutes to build and has nothing to do here, so that RingMQ's takes its place."""

    name, title = "rocketmq-rust", "rocketmq-rust 1.0.0"
    needs = ("taskset", "cargo")
    CRATE = "rocketmq-broker@1.0.0"
    folder = ROOT / "target" / "rocketmq-rust" / "1.0.0"
    program = folder / "bin" / "rocketmq-broker-rust"

    def fetch(self):
        if self.program.exists():
            return
        print(f"building {self.title} by cargo: some minutes", flush=True)
        command = ["cargo", "install", "-q", "--locked", "--root", str(self.folder), self.CRATE]
        if subprocess.run(command, check=False).returncode != 0:
            raise Trouble(f"{self.title} could not be built: see above, or leave it out by --peers")

    def start(self, server):
        home = server.folder / "home"
        home.mkdir(parents=True)
        config = home / "broker.conf"
        properties(config, broker_settings(server))
        server.spawn(
            [server.ringmq, "namesrv", "--listen", "127.0.0.1", "--port", server.namesrv_port], server.load_cpu
        )
        env = {"ROCKETMQ_HOME": str(home), "HOME": str(home)}
        server.spawn([self.program, "-c", config, "--log-filter", "off"], server.broker_cpu, **env)


PEERS = {peer.name: peer for peer in (RingMQ(), Apache("4.9.7"), Apache("5.3.3"), RocketmqRust())}
