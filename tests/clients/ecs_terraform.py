#!/usr/bin/env python3
"""Drives `coracle serve` with Terraform: everything of terraform/main.tf is made, changed, taken over and destroyed, and
between those a plan finds nothing to change.

    ecs_terraform.py CORACLE [PROVIDERS]   starts `coracle serve --dev` itself; needs root, and terraform in PATH

PROVIDERS is a folder as `terraform providers mirror` fills it; without it the AWS provider is fetched from its registry.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import serving

HERE = os.path.dirname(os.path.abspath(__file__))
NOTHING_TO_CHANGE = 0
# Resources and the names under which they are imported.
IMPORTED = {
    "aws_ecs_cluster.cluster": "terraform",
    "aws_ecs_capacity_provider.scaled": "scaled",
    "aws_ecs_task_definition.bridge": "arn:aws:ecs:eu-central-1:123456789012:task-definition/bridge:2",
    "aws_ecs_cluster_capacity_providers.of_cluster": "terraform",
}


class Terraform:
    def __init__(self, folder, endpoint):
        self.folder = folder
        shutil.copy(os.path.join(HERE, "terraform", "main.tf"), folder)
        self.environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "TF_VAR_endpoint": endpoint,
        }

    def run(self, *arguments, code=0, step=1):
        environment = {**self.environment, "TF_VAR_step": str(step)}
        command = ["terraform", arguments[0], "-no-color", *arguments[1:]]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode != code:
            sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def forget(self, resources):
        subprocess.run(
            ["terraform", "state", "rm", *resources], cwd=self.folder, env=self.environment, check=True, capture_output=True
        )

    def told(self):
        return json.loads(self.run("output", "-json", "told"))


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


def drive(terraform, providers):
    terraform.run("init", *([f"-plugin-dir={providers}"] if providers else []))
    for step in [1, 2]:
        terraform.run("apply", "-auto-approve", step=step)
        terraform.run("plan", "-detailed-exitcode", code=NOTHING_TO_CHANGE, step=step)
        told = {"status": "ACTIVE", "clusters": ["default", "terraform"], "revision": step}
        expect(f"what is told in step {step}", terraform.told(), told)
    terraform.forget(IMPORTED)
    for resource, name in IMPORTED.items():
        terraform.run("import", resource, name, step=2)
    terraform.run("plan", "-detailed-exitcode", code=NOTHING_TO_CHANGE, step=2)
    terraform.run("destroy", "-auto-approve", step=2)


def main():
    providers = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
    with serving.serving(sys.argv[1]) as endpoint, tempfile.TemporaryDirectory(prefix="coracle-terraform-") as folder:
        drive(Terraform(folder, endpoint), providers)
    print("made, changed, imported and destroyed with Terraform; no plan found anything to change in between")


if __name__ == "__main__":
    main()
