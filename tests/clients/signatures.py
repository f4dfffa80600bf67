#!/usr/bin/env python3
"""Holds the signatures of coracle's requests to S3 against those that botocore makes of the same requests.

A server on loopback answers only what is signed as botocore would have signed it. The task's image is on no host, so a
task whose environment files were had fails with that, and one whose files were not with ResourceInitializationError.
Needs root, as `coracle run` does.

    signatures.py CORACLE
"""

import glob
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials

KEY, SECRET, TOKEN, REGION = "AKIDEXAMPLE", "wJalr/XUtn+FEMI", "a/session+token==", "eu-central-1"
CGROUP = f"coracle-signatures-{os.getpid()}"
NAMES = ["plain.env", "deep/er/file.env", "with space.env", "plus+and=and&.env", "umläut-✓.env", "~tilde_(1)!*'.env"]


def signature(method, url, headers):
    """What botocore signs such a request with."""
    token = headers.get("x-amz-security-token")
    signer = botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(KEY, SECRET, token), "s3", REGION)
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=headers)
    request.context["timestamp"] = headers["x-amz-date"]
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)


class Bucket(http.server.BaseHTTPRequestHandler):
    served = []

    def do_GET(self):
        authorization = self.headers.get("authorization", "")
        parts = dict(part.strip().split("=", 1) for part in authorization.partition(" ")[2].split(",") if "=" in part)
        signed = {name: self.headers[name] for name in parts.get("SignedHeaders", "").split(";") if name}
        url = f"http://{self.headers['host']}{self.path}"
        right = "x-amz-date" in signed and parts.get("Signature") == signature("GET", url, signed)
        body = b"A=1\n" if right else b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        self.send_response(200 if right else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if right:
            self.served.append(self.path)

    def log_message(self, *_):
        pass


def run(coracle, server, **variables):
    with tempfile.TemporaryDirectory(prefix="coracle-signatures-") as folder:
        files = [{"type": "s3", "value": f"arn:aws:s3:::bucket/{name}"} for name in NAMES]
        container = {"name": "a", "image": "nowhere.example/none:1", "memory": 16, "environmentFiles": files}
        definition = os.path.join(folder, "task.json")
        with open(definition, "w") as out:
            json.dump({"family": "signatures", "networkMode": "none", "containerDefinitions": [container]}, out)
        environment = {
            "PATH": os.environ["PATH"],
            "CORACLE_DATA_DIR": os.path.join(folder, "data"),
            "CORACLE_RUN_DIR": os.path.join(folder, "run"),
            "CORACLE_CGROUP_PARENT": CGROUP,
            "CORACLE_S3_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "AWS_REGION": REGION,
            **variables,
        }
        command = [coracle, "run", "--pull", "never", definition]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stderr


def remove_cgroups():
    """The cgroup that would hold tasks stays when the last of them has gone; this test's own is not needed again."""
    for top in glob.glob(f"/sys/fs/cgroup/{CGROUP}") + glob.glob(f"/sys/fs/cgroup/*/{CGROUP}"):
        for folder, _, _ in os.walk(top, topdown=False):
            remove(folder)


def remove(cgroup, patience_s=10):
    """The last task's supervisor may still be on its way out."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return os.rmdir(cgroup)
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    good = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    for variables in [good, {**good, "AWS_SESSION_TOKEN": TOKEN}]:
        Bucket.served.clear()
        said = run(sys.argv[1], server, **variables)
        if "is not on this host" not in said or len(Bucket.served) != len(NAMES):
            sys.exit(f"botocore would have signed otherwise:\n{said}")
    said = run(sys.argv[1], server, **{**good, "AWS_SECRET_ACCESS_KEY": "another"})
    if "SignatureDoesNotMatch" not in said:
        sys.exit(f"a wrong key was not noticed, so this test notices nothing:\n{said}")
    print(f"{len(NAMES)} names, with and without a session token: signed as botocore signs")


try:
    main()
finally:
    remove_cgroups()
