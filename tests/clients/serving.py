"""A `coracle serve` for a test: one that runs already, or one of the test's own that leaves nothing behind."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time

# Longer than anything here takes on a machine that does a lot besides.
PATIENCE_S = 120


@contextlib.contextmanager
def serving(target, any_key=True):
    """The endpoint's URL. `target` is that, or the binary to start; then root is needed, as for `coracle run`. The key
    that it asks for without `any_key` is in the environment then.
    """
    if target.startswith("http"):
        yield target
        return
    with tempfile.TemporaryFile("w+") as said:
        command = [target, "serve", "--ephemeral", "--listen", "127.0.0.1:0", *(["--dev"] if any_key else [])]
        server = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            found = endpoint(server, said)
            if not any_key:
                os.environ.update(credentials(target, text(said)))
            yield found
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


def credentials(target, said):
    """Its directories have the key, and are where it says."""
    data = re.search(r"everything in (\S+)/data goes", said)[1]
    command = [target, "--data-dir", f"{data}/data", "--run-dir", f"{data}/run", "credentials", "--output", "json"]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {"AWS_ACCESS_KEY_ID": printed["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": printed["SecretAccessKey"]}


def text(file):
    file.seek(0)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.read())
