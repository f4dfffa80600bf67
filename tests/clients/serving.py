"""A `coracle serve` for a test: one that runs already, or one of the test's own that leaves nothing behind."""

import contextlib
import re
import signal
import subprocess
import tempfile
import time

PATIENCE_S = 20


@contextlib.contextmanager
def serving(target):
    """The endpoint's URL. `target` is that, or the binary to start; then root is needed, as for `coracle run`."""
    if target.startswith("http"):
        yield target
        return
    with tempfile.TemporaryFile("w+") as said:
        command = [target, "serve", "--ephemeral", "--dev", "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            yield endpoint(server, said)
        except BaseException:
            print(f"serve said:\n{text(said)[-4000:]}")
            raise
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE_S)


def endpoint(server, said):
    """It prints where it is as soon as it answers there."""
    end = time.monotonic() + PATIENCE_S
    while not (found := re.search(r"the API is at (\S+)", text(said))):
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no API after {PATIENCE_S} s; serve ended with {server.returncode}")
        time.sleep(0.01)
    return found[1]


def text(file):
    file.seek(0)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.read())
