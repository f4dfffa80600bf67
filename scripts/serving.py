"""A `coracle serve` of a script's own that may die at any moment, and whoever asks it until it has answered."""

import http.client
import json
import signal
import socket
import subprocess
import time

from benchmarks import CORACLE, fail

# Longer than anything here takes on a machine that does a lot besides.
PATIENCE_S = 120.0
LOOK_AGAIN_S = 0.002
TARGET = "AmazonEC2ContainerServiceV20141113"


class Refused(Exception):
    """An answer that is none of success: Amazon's name of it, and its words."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """Its directories and network are a `Coracle`'s; what it says goes to a file."""

    def __init__(self, coracle, said, *options, program=CORACLE):
        self.coracle, self.said, self.options, self.program = coracle, said, options, program
        self.process = None

    def start(self):
        command = [self.program, "-v", "serve", "--listen", "127.0.0.1:0", *self.options]
        environment = {**self.coracle.environment, "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached"}
        self.mark = self.said.stat().st_size if self.said.exists() else 0
        with open(self.said, "ab") as said:
            self.process = subprocess.Popen(self.coracle.inside(command), env=environment, stdin=subprocess.DEVNULL, stdout=said,
                                            stderr=said)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)

    def said_since_start(self):
        with open(self.said, "rb") as said:
            said.seek(self.mark)
            return said.read().decode(errors="replace")

    def ask_once(self, operation, body):
        connection = UnixConnection(f"{self.coracle.run_dir}/coracle.sock")
        try:
            headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{TARGET}.{operation}"}
            connection.request("POST", "/", json.dumps(body), headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(f"{operation} {json.dumps(body)}: {said}")
        return said

    def ask(self, operation, body, gone=lambda: False):
        """Asks the same again for as long as nobody answers, as the AWS SDKs do; nothing when `gone` says that it is over."""
        end = time.monotonic() + PATIENCE_S
        while not gone():
            try:
                return self.ask_once(operation, body)
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                if time.monotonic() > end:
                    fail(f"no answer to {operation} within {PATIENCE_S} s; it said:\n{self.said_since_start()[-4000:]}")
                time.sleep(LOOK_AGAIN_S)
        return None

    def wait_for(self, what, look, patience=PATIENCE_S):
        end = time.monotonic() + patience
        while not (found := look()):
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {patience} s")
            time.sleep(LOOK_AGAIN_S * 5)
        return found
