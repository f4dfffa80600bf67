#!/usr/bin/env python3
"""Has botocore get a task's credentials and metadata where a task gets them: at 169.254.170.2, in the task's network.

The credentials are put into the host's store under the role's ARN. botocore then finds them as in a container: by
AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, first with its provider alone, then in the whole chain of a session; and it
fetches what ECS_CONTAINER_METADATA_URI_V4 names with its own fetcher. Needs root, as `coracle run` does; runs in a
network namespace of its own.

    metadata.py CORACLE
"""

import ctypes
import fcntl
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

import botocore.credentials
import botocore.session
import botocore.utils

ROLE = "arn:aws:iam::111122223333:role/team/web"
CGROUP = f"coracle-metadata-{os.getpid()}"
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def enter_new_network():
    checked(LIBC.unshare(CLONE_NEWNET), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


class Coracle:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "CORACLE_DATA_DIR": os.path.join(folder, "data"),
            "CORACLE_RUN_DIR": os.path.join(folder, "run"),
            "CORACLE_CGROUP_PARENT": CGROUP,
        }

    def __call__(self, *arguments, stdin=""):
        command = [self.program, *arguments]
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}:\n{done.stderr}")
        return done.stdout

    def start(self, mode):
        container = {"name": "web", "image": "hello", "memory": 64, "command": ["/coracle", "hello", "--port", "8080"]}
        definition = {"family": "clients", "networkMode": mode, "taskRoleArn": ROLE, "containerDefinitions": [container]}
        path = os.path.join(self.folder, "task.json")
        with open(path, "w") as out:
            json.dump(definition, out)
        task = self("run", "--detach", path).split()[-1]
        state = os.path.join(self.folder, "data", "tasks", task)
        with open(os.path.join(state, "task.json")) as spec, open(os.path.join(state, "status.json")) as status:
            return task, json.load(spec), json.load(status)["containers"][0]["process"]["pid"]

    def put(self, key):
        value = {"AccessKeyId": key, "SecretAccessKey": f"secret of {key}", "SessionToken": f"token of {key}"}
        self("secret", "put", ROLE, stdin=json.dumps(value))


def in_network_of(pid, act):
    """What `act` returns when a child of ours in that process's network namespace calls it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(f"/proc/{pid}/ns/net") as namespace:
                checked(LIBC.setns(namespace.fileno(), CLONE_NEWNET), "setns")
            answer = {"done": act()}
        except BaseException as error:
            answer = {"failed": repr(error)}
        with os.fdopen(writing, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        answer = json.load(answer)
    os.waitpid(child, 0)
    if "failed" in answer:
        sys.exit(f"botocore: {answer['failed']}")
    return answer["done"]


def ask(spec):
    """As a container would, with the variables of this one."""
    own = {pair["name"]: pair["value"] for pair in spec["containers"][0]["injected_environment"]}
    kept = {name: os.environ[name] for name in ("PATH",)}
    os.environ.clear()
    os.environ.update(kept, HOME="/nonexistent", AWS_EC2_METADATA_DISABLED="true", **own)
    provider = botocore.credentials.ContainerProvider(environ=own).load()
    of_chain = botocore.session.Session().get_credentials()
    found = [list(credentials.get_frozen_credentials()) for credentials in (provider, of_chain)]
    fetcher = botocore.utils.ContainerMetadataFetcher()
    metadata = fetcher.retrieve_full_uri(own["ECS_CONTAINER_METADATA_URI_V4"] + "/task")
    return {"credentials": found, "method": of_chain.method, "refreshes": provider.refresh_needed(3500), "task": metadata}


def main(program):
    enter_new_network()
    with tempfile.TemporaryDirectory(prefix="coracle-metadata-") as folder:
        coracle = Coracle(program, folder)
        archive = os.path.join(folder, "hello.tar")
        with tarfile.open(archive, "w") as out:
            out.add(program, "coracle")
        coracle("image", "import", "--name", "hello", archive)
        for mode in ("bridge", "awsvpc"):
            task, spec, pid = coracle.start(mode)
            for key in ("ASIAFIRST", "ASIASECOND"):
                coracle.put(key)
                answer = in_network_of(pid, lambda: ask(spec))
                wanted = [key, f"secret of {key}", f"token of {key}"]
                got = [credentials[:3] for credentials in answer["credentials"]]
                if got != [wanted, wanted] or answer["method"] != "container-role":
                    sys.exit(f"{mode}: botocore has {got} by {answer['method']} where {wanted} were put")
                if not answer["task"]["TaskARN"].endswith(task):
                    sys.exit(f"{mode}: botocore's fetcher has {answer['task']}")
            coracle("rm", "--force", task)
        shutil.rmtree(os.path.join(folder, "data"))
    print("botocore's container provider and its fetcher have what was put there, in bridge and awsvpc mode")


def remove_cgroups(patience_s=10):
    """The cgroup that would hold tasks stays when the last of them has gone; who serves them may be on its way out."""
    end = time.monotonic() + patience_s
    for top in glob.glob(f"/sys/fs/cgroup/{CGROUP}") + glob.glob(f"/sys/fs/cgroup/*/{CGROUP}"):
        while os.path.exists(top):
            try:
                for folder, _, _ in os.walk(top, topdown=False):
                    os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


try:
    main(sys.argv[1])
finally:
    remove_cgroups()
