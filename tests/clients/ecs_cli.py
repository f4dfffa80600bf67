#!/usr/bin/env python3
"""Drives `coracle serve` with the AWS CLI from PyPI, as its users do: register, run, wait, describe, exec, stop.

The Python that runs this has the CLI beside it; `tests/clients/run` sees to it. Exec needs Amazon's plug-in for sessions:
`session_manager_plugin.py` beside this file takes its place, and speaks its protocol.

    ecs_cli.py CORACLE            starts `coracle serve --dev` itself; needs root
    ecs_cli.py http://HOST:PORT   with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where it asks for them
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import serving

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "..", "..", "examples", "hello.json")


class Cli:
    def __init__(self, endpoint, folder):
        self.folder = folder
        plugin = os.path.join(folder, "session-manager-plugin")
        with open(plugin, "w") as out:
            script = os.path.join(HERE, "session_manager_plugin.py")
            out.write(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        os.chmod(plugin, 0o755)
        self.environment = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_PAGER": "",
        }

    def run(self, *arguments, code=0):
        aws = os.path.join(os.path.dirname(sys.executable), "aws")
        command = [sys.executable, aws, "ecs", *arguments, "--output", "json"]
        # The CLI answers Ctrl-C of a session itself, so a session gets a process group of its own.
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=serving.PATIENCE_S, start_new_session=True
        )
        if done.returncode != code:
            sys.exit(f"aws ecs {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def ask(self, *arguments):
        return json.loads(self.run(*arguments))


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


def served(url):
    """The status. A container runs before its program listens."""
    end = time.monotonic() + serving.PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=serving.PATIENCE_S) as page:
                return page.status
        except OSError as error:
            if time.monotonic() > end:
                return error
            time.sleep(0.05)


def drive(cli):
    with open(EXAMPLE) as file:
        example = json.load(file)
    # Any port that is free here.
    example["containerDefinitions"][0]["portMappings"][0]["hostPort"] = 0
    definition = os.path.join(cli.folder, "definition.json")
    with open(definition, "w") as out:
        json.dump(example, out)
    made = cli.ask("register-task-definition", "--cli-input-json", f"file://{definition}")["taskDefinition"]
    expect("its ARN", made["taskDefinitionArn"], "arn:aws:ecs:eu-central-1:123456789012:task-definition/hello:1")
    run = cli.ask("run-task", "--task-definition", "hello", "--enable-execute-command", "--started-by", "cli-test")
    expect("failures", run["failures"], [])
    task = run["tasks"][0]["taskArn"]
    cli.run("wait", "tasks-running", "--tasks", task)
    described = cli.ask("describe-tasks", "--tasks", task, "--include", "TAGS")["tasks"][0]
    expect("its status", described["lastStatus"], "RUNNING")
    port = described["containers"][0]["networkBindings"][0]["hostPort"]
    expect("what the container serves", served(f"http://127.0.0.1:{port}/"), 200)
    expect("when it started is a number", isinstance(described["startedAt"], float), True)
    expect("tasks", cli.ask("list-tasks", "--started-by", "cli-test")["taskArns"], [task])
    expect("pages", cli.ask("list-task-definitions", "--page-size", "1")["taskDefinitionArns"], [made["taskDefinitionArn"]])

    exec_into = ["execute-command", "--task", task, "--container", "hello", "--interactive"]
    said = cli.run(*exec_into, "--command", "/coracle --version")
    expect("what exec printed", "coracle" in said, True)

    cli.run("stop-task", "--task", task, "--reason", "done")
    cli.run("wait", "tasks-stopped", "--tasks", task)
    ended = cli.ask("describe-tasks", "--tasks", task)["tasks"][0]
    expect("how it ended", (ended["lastStatus"], ended["stoppedReason"]), ("STOPPED", "done"))
    cli.ask("deregister-task-definition", "--task-definition", "hello:1")
    # What errors of the service end with in version 1 of the CLI.
    said = cli.run("describe-task-definition", "--task-definition", "nowhere", code=255)
    expect("an error", "(ClientException)" in said and "Unable to describe task definition" in said, True)
    said = cli.run("list-services", code=255)
    expect("what is not built", "(UnsupportedFeatureException)" in said, True)


def main():
    with serving.serving(sys.argv[1]) as endpoint, tempfile.TemporaryDirectory(prefix="coracle-cli-") as folder:
        drive(Cli(endpoint, folder))
    print("registered, run, waited for, described, listed, exec'd, stopped and deregistered with the AWS CLI")


if __name__ == "__main__":
    main()
