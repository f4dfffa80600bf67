"""What the bench scripts share: a journaled disk to work on, measuring one command, medians and ratios.

Every bench measures its peers in the same run, in turn with coracle, because a shared machine drifts: quote ratios.
"""

import ctypes
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Another build where one is named, as for the host tests.
CORACLE = Path(os.environ.get("CORACLE_TEST_BIN", ROOT / "target" / "coracle"))
CLONE_NEWNS = 0x00020000
# What nft tells of time and packets.
COUNTED = r"(counter packets \d+ bytes \d+|expires \S+)"
os.environ["PATH"] += ":/usr/sbin:/sbin"


def fail(message):
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(1)


def say(message):
    print(f"== {message}", file=sys.stderr, flush=True)


def need_root_and_binary():
    if os.geteuid() != 0:
        fail("containers need root: run this as root")
    if not CORACLE.exists():
        fail("target/coracle is not built: scripts/build")


def describe_machine():
    release = Path("/etc/os-release").read_text().split('PRETTY_NAME="')[1].split('"')[0]
    hierarchies = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1 or hybrid"
    print(f"{os.cpu_count()} CPUs, Linux {platform.release()}, {release}, cgroup {hierarchies}, load {os.getloadavg()[0]:.1f}")


def run(command, **options):
    """Runs a command that has to work; its output is the error's text when it does not."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Disk:
    """A fresh ext4 with a journal on a loop device, gone at the end. Root file systems of test machines may have none."""

    def __init__(self, mib, within=ROOT / "target"):
        self.mib, self.within = mib, within

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=self.within))
        image, self.mount = self.folder / "disk", self.folder / "mnt"
        with open(image, "wb") as file:
            file.truncate(self.mib * 2**20)
        run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image])
        self.mount.mkdir()
        run(["mount", "-o", "loop", image, self.mount])
        return self.mount

    def __exit__(self, *_):
        for attempt in range(50):
            if subprocess.run(["umount", self.mount], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        else:
            print(f"{self.mount} is still mounted", file=sys.stderr)
            return
        shutil.rmtree(self.folder)


class NetworkNamespace:
    """A pretend host's network with nothing in it but a loopback: what is counted there is nobody else's."""

    def __init__(self, name):
        self.name = f"{name}-{os.getpid()}"

    def __enter__(self):
        run(["ip", "netns", "add", self.name])
        run(["ip", "-n", self.name, "link", "set", "lo", "up"])
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name])

    def inside(self, command):
        """The command that runs another one in there. `ip netns exec` would hide the cgroups below /sys."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *map(str, command)]


class Coracle:
    """The binary with state of its own, so that nothing of the host's is touched; in a network of its own, if it is given one."""

    def __init__(self, data, name, namespace=None):
        self.namespace = namespace
        self.data = data
        self.run_dir = Path("/run") / f"coracle-{name}-{os.getpid()}"
        self.environment = {
            **os.environ, "CORACLE_DATA_DIR": str(data), "CORACLE_RUN_DIR": str(self.run_dir), "NO_COLOR": "1",
            "CORACLE_CGROUP_PARENT": f"coracle-{name}", "CORACLE_BRIDGE": f"{name}0",
            "CORACLE_BRIDGE_SUBNET": "172.31.240.0/22", "CORACLE_NFT_TABLE": f"coracle_{name}",
        }

    def inside(self, command):
        return self.namespace.inside(command) if self.namespace else list(command)

    def __call__(self, *arguments):
        return run(self.inside([CORACLE, *arguments]), env=self.environment)

    def clean_up(self):
        shutil.rmtree(self.run_dir, ignore_errors=True)
        # Shared by all tasks, and now empty; that of another loop of the same name is not.
        parent = self.environment["CORACLE_CGROUP_PARENT"]
        for folder in [*Path("/sys/fs/cgroup").glob(f"*/{parent}"), Path("/sys/fs/cgroup") / parent]:
            with suppress(OSError):
                folder.rmdir()
        if self.namespace:
            return
        # The bridge and the table are shared by all tasks, so the last task leaves them; these were ours alone.
        subprocess.run(["ip", "link", "del", self.environment["CORACLE_BRIDGE"]], stderr=subprocess.DEVNULL)
        subprocess.run(["nft", "delete", "table", "inet", self.environment["CORACLE_NFT_TABLE"]], stderr=subprocess.DEVNULL)


# A shell's words for a container: it calls the host, so that flows of each protocol are followed, and one stays.
CALL_PORT = 7
CALL_THE_HOST = ("host=$(ip route | awk '/^default/ { print $3 }'); ping -c 1 -W 1 $host >/dev/null; "
                 f"nslookup x $host >/dev/null 2>&1 & nc -w 1 $host 9 </dev/null 2>/dev/null; "
                 f"sleep 1000 | nc $host {CALL_PORT} & ")


@contextmanager
def called_host(namespace):
    """What containers call with `CALL_THE_HOST`; a connection ends here when it ends there."""
    server = subprocess.Popen(namespace.inside(["busybox", "nc", "-ll", "-p", CALL_PORT, "-e", "cat"]), start_new_session=True)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def host_state(coracle):
    """A line for each thing of a network namespace, and each mount, cgroup and file of one coracle, without what counts
    time or packets, and without a task's log and state."""
    def shown(*command):
        return run(coracle.inside(command))

    # Links are the same when they have been made anew; whose other end they have is no number of theirs.
    links = [{name: value for name, value in link.items() if name not in ("ifindex", "link_index")}
             for link in json.loads(shown("ip", "-j", "link"))]
    routes = [f"route {line}" for family in "46" for line in shown("ip", f"-{family}", "route", "show", "table", "all").splitlines()]
    rules = [f"rule {re.sub(COUNTED, '', line).strip()}" for line in shown("nft", "list", "ruleset").splitlines() if line.strip()]
    # The fifth word is how many seconds a flow is still remembered.
    words = [line.split() for line in shown("cat", "/proc/net/nf_conntrack").splitlines()]
    # What the host tells multicast routers (IGMP) is nobody's.
    flows = [f"flow {' '.join(line[:4] + [word for word in line[5:] if not word.startswith('use=')])}" for line in words
             if "dst=224.0.0.22" not in line]
    # Some cannot be read; grep says so by its exit status.
    settings = shown("sh", "-c", "cd /proc/sys/net; grep -rs '' ipv[46]/conf/all ipv[46]/conf/default ipv4/ip_forward; true")
    parent, run_dir = f"/{coracle.environment['CORACLE_CGROUP_PARENT']}/", coracle.run_dir
    return Counter([
        *(f"link {json.dumps(link)}" for link in links), *routes, *rules, *flows,
        *(f"address {line}" for line in shown("ip", "-o", "-br", "address").splitlines()),
        *(f"neighbour {line}" for line in shown("ip", "neighbour", "show", "nud", "permanent").splitlines()),
        *(f"peer namespace {line}" for line in shown("ip", "netns", "list-id").splitlines()),
        *(f"setting {line}" for line in settings.splitlines()),
        *(f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()
          if str(run_dir) in line or f"{coracle.data}/" in line),
        *(f"cgroup {folder}" for folder, _, _ in os.walk("/sys/fs/cgroup") if parent in folder),
        # One process serves all tasks; killed, it leaves its lock and its log to the next.
        *(f"file {file.relative_to(run_dir)}" for file in run_dir.rglob("*") if not file.name.startswith("host-services.")),
    ])


# Built into the binary: a small web server on port 80.
HELLO = "coracle/hello:latest"


def task_definition(folder, family, mode, command=None, host_ports=(), image="busybox:latest"):
    """A definition file and its path: a container for each host port, with port 80 published there; one when none is."""
    definition = {"family": family, "networkMode": mode, "containerDefinitions": []}
    for number, host_port in enumerate(host_ports or [None]):
        container = {"name": f"c{number}", "image": image, "memory": 64, "essential": True}
        if command:
            container["command"] = command
        if host_port is not None:
            container["portMappings"] = [{"containerPort": 80, "hostPort": host_port}]
        definition["containerDefinitions"].append(container)
    path = folder / f"{family}.json"
    path.write_text(json.dumps(definition))
    return path


def unpack_image(archive, root):
    """An OCI archive's layers as one plain root file system, for runtimes that know no images."""
    with tarfile.open(archive) as outer:
        def blob(descriptor):
            return outer.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))

        index = json.load(outer.extractfile("index.json"))
        for layer in json.load(blob(index["manifests"][0]))["layers"]:
            with tarfile.open(fileobj=blob(layer), mode="r:gz") as inner:
                inner.extractall(root)


class Docker:
    """A daemon of our own, with a data directory of its own: the host's Docker, or else Debian's packages, unpacked into
    target/docker. In a network of its own, if it is given one."""

    PATIENCE_S = 120

    def __init__(self, disk, name, options, namespace=None):
        unpacked = ROOT / "target" / "docker"
        self.environment = {**os.environ, "PATH": f"{unpacked}/usr/sbin:{unpacked}/usr/bin:{os.environ['PATH']}"}
        if not shutil.which("dockerd", path=self.environment["PATH"]):
            say("unpacking Debian's docker into target/docker")
            packages = ROOT / "target" / "docker-packages"
            packages.mkdir(exist_ok=True)
            run(["apt-get", "download", "-q", "docker.io", "containerd", "runc"], cwd=packages)
            for package in packages.glob("*.deb"):
                run(["dpkg", "-x", package, unpacked])
        self.folder = Path("/run") / f"{name}-{os.getpid()}"
        self.folder.mkdir(mode=0o700)
        socket = f"unix://{self.folder}/docker.sock"
        self.command = ["docker", "-H", socket]
        self.log = open(disk / "dockerd.log", "wb")
        daemon = ["dockerd", "-H", socket, "--data-root", disk / "docker", "--exec-root", self.folder / "exec", "--pidfile",
                  self.folder / "pid", *options]
        self.daemon = subprocess.Popen(namespace.inside(daemon) if namespace else daemon, env=self.environment,
                                       stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        limit = time.monotonic() + self.PATIENCE_S
        while subprocess.run([*self.command, "info"], env=self.environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > limit:
                raise OSError((disk / "dockerd.log").read_text().strip().splitlines()[-1])
            time.sleep(0.1)
        threads = Path(f"/proc/{self.daemon.pid}/task").iterdir()
        below = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        self.processes = [self.daemon.pid, *below]

    def __call__(self, *arguments):
        return run([*self.command, *arguments], env=self.environment)

    def import_image(self, archive, name, root, changes=()):
        """An OCI archive as an image of Docker's, by way of the folder `root`."""
        unpack_image(archive, root)
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*self.command, "import", *changes, "-", name], stdin=tar.stdout, stdout=subprocess.DEVNULL,
                           env=self.environment, check=True)

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def image(recipe):
    path = ROOT / "target" / "images" / f"{recipe}.tar"
    if not path.exists():
        say(f"making the {recipe} image")
        run([ROOT / "scripts" / "make-image", recipe])
    return path


class Measured:
    """Milliseconds to the first byte of output and to the end, CPU seconds of the command and what it waited for."""

    def __init__(self, first_ms, whole_ms, cpu_s, status, output):
        self.first_ms, self.whole_ms, self.cpu_s, self.status, self.output = first_ms, whole_ms, cpu_s, status, output


def measure(command, environment=None, before=None):
    """Runs one command. `before` is called in the process that starts it, outside the measured time."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            if before:
                before()
            os.write(theirs, json.dumps(measure_here([str(part) for part in command], environment)).encode())
            os._exit(0)
        except BaseException as error:  # whatever it was, the parent has to hear of it
            print(f"measuring {command}: {error}", file=sys.stderr)
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        fail("a measurement failed")
    return Measured(*json.loads(answer))


def measure_here(command, environment):
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment)
        output = os.read(process.stdout.fileno(), 65536)
        first = time.perf_counter()
        while chunk := os.read(process.stdout.fileno(), 65536):
            output += chunk
        _, status, usage = os.wait4(process.pid, 0)
        whole = time.perf_counter()
        status = os.waitstatus_to_exitcode(status)
        if status != 0:
            errors.seek(0)
            output += errors.read(4096)
    cpu = usage.ru_utime + usage.ru_stime
    return [(first - started) * 1e3, (whole - started) * 1e3, cpu, status, output.decode(errors="replace")[:4096]]


def without_unified_cgroups():
    """Debian's crun refuses hybrid hosts; in a mount namespace without the v2 mount it sees a v1 host."""
    libc = ctypes.CDLL(None, use_errno=True)
    unified = "/sys/fs/cgroup/unified"
    if not os.path.ismount(unified):
        return
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["umount", unified], check=True)


def spread(values):
    """Median with the quartiles, as text."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(len(ordered) * 3) // 4]
    return f"{statistics.median(values):8.2f}  {low:8.2f} – {high:.2f}"


def print_table(title, unit, results, reference):
    """One line a case: median, middle half, and the ratio to the reference case."""
    if not results:
        return
    base = statistics.median(results[reference]) if reference in results else None
    width = max(map(len, results))
    print(f"\n{title} ({unit}; median, middle half, ratio to {reference}; n = {min(map(len, results.values()))})")
    for name, values in results.items():
        ratio = f"  {statistics.median(values) / base:6.2f}×" if base else ""
        print(f"  {name:<{width}}  {spread(values)}{ratio}")
