#!/usr/bin/env python3
"""Calls every operation of botocore's ECS model at `coracle serve`, and holds every answer to that model.

What is built is called as people use it: a cluster, its instance, a task definition, tasks from RunTask to their end,
with filters, pages, tags, settings, attributes, capacity providers and protections, and also wrongly. What is not built
must say so. The Python that runs this has botocore; `tests/clients/run` sees to it.

    ecs_model.py CORACLE          starts `coracle serve --dev` itself; needs root
    ecs_model.py http://HOST:PORT with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where it asks for them
"""

import json
import os
import sys
import uuid

import botocore
import botocore.config
import botocore.exceptions
import botocore.session
from botocore import xform_name

import ecs_answers
import serving
import session_manager_plugin

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "hello.json")
REGION = "eu-north-7"
# Needs nothing but the binary, and runs until it is stopped.
IMAGE = "coracle/hello:latest"
NOT_BUILT = 43
# One look a second.
PATIENTLY = {"Delay": 1, "MaxAttempts": int(serving.PATIENCE_S)}


class Calls:
    """Calls operations by their names in the model, and notes which."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.session = botocore.session.get_session()
        self.model = self.session.get_service_model("ecs")
        self.answers = ecs_answers.Answers(self.model)
        self.client = self.connect(REGION)
        self.wrong = self.answers.wrong

    def connect(self, region):
        client = self.session.create_client(
            "ecs",
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "test"),
            aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
            config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=serving.PATIENCE_S),
        )
        self.answers.watch(client)
        return client

    def __call__(self, operation, **members):
        return getattr(self.client, xform_name(operation))(**members)

    def refused(self, code, operation, **members):
        """The message of a refusal, which must be of this code."""
        try:
            self(operation, **members)
        except botocore.exceptions.ClientError as error:
            found = error.response["Error"]
            if found["Code"] != code:
                self.wrong.append(f"{operation}({members}): {found['Code']}, not {code}: {found['Message']}")
            return found["Message"]
        self.wrong.append(f"{operation}({members}): not refused with {code}")
        return ""

    def expect(self, what, found, wanted):
        if found != wanted:
            self.wrong.append(f"{what}: {found!r}, not {wanted!r}")

    def pages(self, operation, size, **members):
        """What a paginator finds in pages of this size."""
        paginator = self.client.get_paginator(xform_name(operation))
        found, key = [], paginator.result_keys[0].expression
        for page in paginator.paginate(PaginationConfig={"PageSize": size}, **members):
            if len(page[key]) > size:
                self.wrong.append(f"{operation}: a page of {len(page[key])} where {size} were asked for")
            found += page[key]
        return found


def clusters(call):
    made = call("CreateCluster", clusterName="model", tags=[{"key": "a", "value": "b"}])["cluster"]
    call.expect("a cluster's ARN", made["clusterArn"], f"arn:aws:ecs:{REGION}:123456789012:cluster/model")
    call.expect("a cluster's status", made["status"], "ACTIVE")
    again = call("CreateCluster", clusterName="model")["cluster"]
    call.expect("the same cluster again", again["clusterArn"], made["clusterArn"])
    for name in ["another", "a-third"]:
        call("CreateCluster", clusterName=name, settings=[{"name": "containerInsights", "value": "enabled"}])
    found = call.pages("ListClusters", 1)
    call.expect("clusters in pages of one", sorted(found), sorted(call("ListClusters")["clusterArns"]))
    call.expect("clusters", {"another", "a-third", "model"} <= {arn.rpartition("/")[2] for arn in found}, True)

    described = call("DescribeClusters", clusters=["model", "nowhere"], include=["TAGS", "SETTINGS", "STATISTICS"])
    call.expect("a cluster's tags", described["clusters"][0]["tags"], [{"key": "a", "value": "b"}])
    failure = described["failures"][0]
    call.expect("a missing cluster", (failure["arn"].rpartition("/")[2], failure["reason"]), ("nowhere", "MISSING"))
    call.expect("tags that nobody asked for", call("DescribeClusters", clusters=["model"])["clusters"][0]["tags"], [])

    settings = [{"name": "containerInsights", "value": "disabled"}]
    updated = call("UpdateClusterSettings", cluster="another", settings=settings)["cluster"]
    call.expect("settings", updated["settings"], settings)
    call("UpdateCluster", cluster="another", configuration={"executeCommandConfiguration": {"logging": "DEFAULT"}})
    deleted = call("DeleteCluster", cluster="a-third")["cluster"]
    call.expect("a deleted cluster's status", deleted["status"], "INACTIVE")
    listed = call("ListClusters")["clusterArns"]
    call.expect("a deleted cluster is listed", any(arn.endswith("/a-third") for arn in listed), False)
    inactive = call("DescribeClusters", clusters=["a-third"])
    call.expect("a deleted cluster is described", inactive["clusters"][0]["status"], "INACTIVE")

    call.refused("ClusterNotFoundException", "DeleteCluster", cluster="nowhere")
    call.refused("InvalidParameterException", "CreateCluster", clusterName="no spaces")
    call.refused("InvalidParameterException", "ListClusters", nextToken="none-of-ours")
    call.refused("ClusterNotFoundException", "UpdateCluster", cluster="nowhere")
    call.refused("ClusterNotFoundException", "UpdateClusterSettings", cluster="nowhere", settings=settings)


def capacity_providers(call):
    group = "arn:aws:autoscaling:eu-north-7:123456789012:autoScalingGroup:1:autoScalingGroupName/group"
    made = call("CreateCapacityProvider", name="own", autoScalingGroupProvider={"autoScalingGroupArn": group})
    call.expect("a capacity provider's status", made["capacityProvider"]["status"], "ACTIVE")
    scaling = {"managedScaling": {"status": "DISABLED"}}
    call("UpdateCapacityProvider", name="own", autoScalingGroupProvider=scaling)
    names = [each["name"] for each in call("DescribeCapacityProviders")["capacityProviders"]]
    call.expect("capacity providers", {"FARGATE", "FARGATE_SPOT", "own"} <= set(names), True)
    described = call("DescribeCapacityProviders", capacityProviders=["own", "nowhere"], include=["TAGS"])
    call.expect("a described one", [each["name"] for each in described["capacityProviders"]], ["own"])
    call.expect("a missing one", described["failures"][0]["reason"], "MISSING")
    first = call("DescribeCapacityProviders", maxResults=1)
    call.expect("pages of one", len(first["capacityProviders"]), 1)
    call("DescribeCapacityProviders", maxResults=1, nextToken=first["nextToken"])

    strategy = [{"capacityProvider": "own", "weight": 1, "base": 1}]
    members = {"capacityProviders": ["own", "FARGATE"], "defaultCapacityProviderStrategy": strategy}
    cluster = call("PutClusterCapacityProviders", cluster="another", **members)["cluster"]
    call.expect("a cluster's providers", sorted(cluster["capacityProviders"]), ["FARGATE", "own"])
    call.expect("its strategy", cluster["defaultCapacityProviderStrategy"], strategy)
    call("PutClusterCapacityProviders", cluster="another", capacityProviders=[], defaultCapacityProviderStrategy=[])
    call("DeleteCapacityProvider", capacityProvider="own")
    call.refused("ClusterNotFoundException", "PutClusterCapacityProviders", cluster="nowhere", **members)


def account_settings(call):
    call("PutAccountSetting", name="containerInsights", value="enabled")
    call("PutAccountSettingDefault", name="awsvpcTrunking", value="enabled")
    one = call("ListAccountSettings", name="containerInsights", effectiveSettings=True)["settings"]
    call.expect("a setting", [(each["name"], each["value"]) for each in one], [("containerInsights", "enabled")])
    by_value = call("ListAccountSettings", name="containerInsights", value="disabled")["settings"]
    call.expect("a setting by another value", by_value, [])
    every = call.pages("ListAccountSettings", 2, effectiveSettings=True)
    call.expect("a setting in pages", "containerInsights" in {each["name"] for each in every}, True)
    call("DeleteAccountSetting", name="containerInsights")
    call.refused("InvalidParameterException", "PutAccountSetting", name="nothingSuch", value="enabled")


def task_definitions(call):
    container = {
        "name": "web",
        "image": IMAGE,
        "essential": True,
        "memory": 64,
        "environment": [{"name": "PORT", "value": "8080"}],
        "dockerLabels": {"a": "b"},
    }
    tags = [{"key": "team", "value": "one"}]
    for revision in [1, 2, 3]:
        made = call(
            "RegisterTaskDefinition", family="model", networkMode="none", containerDefinitions=[container], tags=tags
        )
        call.expect("a revision", made["taskDefinition"]["revision"], revision)
        call.expect("its tags", made["tags"], tags)
    call("RegisterTaskDefinition", family="model-two", networkMode="none", containerDefinitions=[container])
    arn = made["taskDefinition"]["taskDefinitionArn"]
    call.expect("its ARN", arn, f"arn:aws:ecs:{REGION}:123456789012:task-definition/model:3")
    newest = call("DescribeTaskDefinition", taskDefinition="model", include=["TAGS"])
    call.expect("the newest", (newest["taskDefinition"]["revision"], newest["tags"]), (3, tags))
    for name in ["model:1", arn]:
        call("DescribeTaskDefinition", taskDefinition=name)

    short = [each.rpartition("/")[2] for each in call("ListTaskDefinitions", familyPrefix="model")["taskDefinitionArns"]]
    call.expect("a family", short, ["model:1", "model:2", "model:3"])
    every = [each.rpartition("/")[2] for each in call.pages("ListTaskDefinitions", 1, sort="DESC")]
    call.expect("all, backwards", every, ["model-two:1", "model:3", "model:2", "model:1"])
    call.expect("families", call.pages("ListTaskDefinitionFamilies", 1, familyPrefix="mod"), ["model", "model-two"])

    gone = call("DeregisterTaskDefinition", taskDefinition="model:1")["taskDefinition"]
    call.expect("a deregistered one's status", gone["status"], "INACTIVE")
    inactive = call("ListTaskDefinitions", status="INACTIVE")["taskDefinitionArns"]
    call.expect("the inactive ones", [each.rpartition("/")[2] for each in inactive], ["model:1"])
    families = call("ListTaskDefinitionFamilies", status="INACTIVE")["families"]
    call.expect("inactive families", families, [])
    deleted = call("DeleteTaskDefinitions", taskDefinitions=["model:1", "model:2"])
    call.expect("deleted", [each["status"] for each in deleted["taskDefinitions"]], ["DELETE_IN_PROGRESS"])
    call.expect("not deleted", len(deleted["failures"]), 1)
    # A revision's number is never another one's, though all others of its family are gone.
    for family in ["numbered", "numbered"]:
        made = call("RegisterTaskDefinition", family=family, networkMode="none", containerDefinitions=[container])
        arn = made["taskDefinition"]["taskDefinitionArn"]
        call("DeregisterTaskDefinition", taskDefinition=arn)
        call("DeleteTaskDefinitions", taskDefinitions=[arn])
    call.expect("the number after those that are gone", made["taskDefinition"]["revision"], 2)

    call.refused("ClientException", "DescribeTaskDefinition", taskDefinition="nowhere")
    call.refused("ClientException", "DeregisterTaskDefinition", taskDefinition="nowhere:1")
    call.refused("ClientException", "DeregisterTaskDefinition", taskDefinition="model")
    call.refused("ClientException", "RegisterTaskDefinition", family="model", containerDefinitions=[])
    call.refused("ClientException", "RegisterTaskDefinition", family="no spaces", containerDefinitions=[container])


def tags(call):
    arn = call("DescribeClusters", clusters=["another"])["clusters"][0]["clusterArn"]
    call("TagResource", resourceArn=arn, tags=[{"key": "x", "value": "1"}, {"key": "y", "value": "2"}])
    call("UntagResource", resourceArn=arn, tagKeys=["x", "never"])
    call.expect("tags", call("ListTagsForResource", resourceArn=arn)["tags"], [{"key": "y", "value": "2"}])
    call.refused("InvalidParameterException", "TagResource", resourceArn=arn, tags=[{"key": "aws:a", "value": "1"}])
    call.refused("InvalidParameterException", "ListTagsForResource", resourceArn="arn:nonsense")


def instances(call):
    """An instance by the API alone, as an agent of Amazon's would make it, in a cluster of its own."""
    resources = [
        {"name": "CPU", "type": "INTEGER", "integerValue": 1024},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": 512},
        {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
        {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
    ]
    made = call(
        "RegisterContainerInstance",
        cluster="another",
        totalResources=resources,
        versionInfo={"agentVersion": "1.0", "agentHash": "0", "dockerVersion": "none"},
        attributes=[{"name": "rack", "value": "a"}],
        tags=[{"key": "a", "value": "b"}],
    )["containerInstance"]
    arn = made["containerInstanceArn"]
    listed = call("ListContainerInstances", cluster="another", filter="attribute:rack == a")["containerInstanceArns"]
    call.expect("instances by an attribute", listed, [arn])
    listed = call("ListContainerInstances", cluster="another", filter="attribute:rack == b")["containerInstanceArns"]
    call.expect("instances by another", listed, [])
    call.refused("InvalidParameterException", "ListContainerInstances", cluster="another", filter="attribute:rack ==")
    described = call("DescribeContainerInstances", cluster="another", containerInstances=[arn, "0" * 32], include=["TAGS"])
    call.expect("an instance's tags", described["containerInstances"][0]["tags"], [{"key": "a", "value": "b"}])
    call.expect("a missing instance", described["failures"][0]["reason"], "MISSING")

    put = [{"name": "stack", "value": "prod", "targetType": "container-instance", "targetId": arn}]
    call("PutAttributes", cluster="another", attributes=put)
    target = {"cluster": "another", "targetType": "container-instance"}
    found = call("ListAttributes", attributeName="stack", **target)["attributes"]
    call.expect("an attribute", [(each["name"], each.get("value")) for each in found], [("stack", "prod")])
    call.expect("by another value", call("ListAttributes", attributeName="stack", attributeValue="x", **target)["attributes"], [])
    call.pages("ListAttributes", 1, **target)
    call("DeleteAttributes", cluster="another", attributes=[{**put[0]}])
    call.refused("TargetNotFoundException", "PutAttributes", cluster="another", attributes=[{**put[0], "targetId": "0" * 32}])

    draining = {"cluster": "another", "containerInstances": [arn], "status": "DRAINING"}
    states = call("UpdateContainerInstancesState", **draining)["containerInstances"]
    call.expect("a draining instance", [each["status"] for each in states], ["DRAINING"])
    listed = call.pages("ListContainerInstances", 1, cluster="another", status="DRAINING")
    call.expect("draining instances", listed, [arn])
    call("UpdateContainerInstancesState", **{**draining, "status": "ACTIVE"})
    call("DiscoverPollEndpoint", cluster="another", containerInstance=arn)
    try:
        call("UpdateContainerAgent", cluster="another", containerInstance=arn)
    except botocore.exceptions.ClientError:
        # That there is no update is an answer too; its code has been judged.
        pass
    call.refused("ClusterContainsContainerInstancesException", "DeleteCluster", cluster="another")
    call("DeregisterContainerInstance", cluster="another", containerInstance=arn, force=True)
    call.refused("InvalidParameterException", "DeregisterContainerInstance", cluster="another", containerInstance="0" * 32)


def tasks(call):
    call.refused("InvalidParameterException", "RunTask", cluster="model", taskDefinition="model")
    instance = call("ListContainerInstances")["containerInstanceArns"][0]
    token = str(uuid.uuid4())
    asked = {
        "taskDefinition": "model",
        "count": 2,
        "startedBy": "the-model",
        "group": "family:model",
        "clientToken": token,
        "enableExecuteCommand": True,
        "tags": [{"key": "a", "value": "b"}],
        "overrides": {"containerOverrides": [{"name": "web", "environment": [{"name": "WHO", "value": "me"}]}]},
    }
    run = call("RunTask", **asked)
    arns = [task["taskArn"] for task in run["tasks"]]
    call.expect("tasks", (len(arns), run["failures"]), (2, []))
    call.expect("tasks that are not seen at once", call("DescribeTasks", tasks=arns)["failures"], [])
    call.expect("the same request again", [task["taskArn"] for task in call("RunTask", **asked)["tasks"]], arns)
    call.refused("ConflictException", "RunTask", **{**asked, "count": 1})
    call.client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=PATIENTLY)
    described = call("DescribeTasks", tasks=[*arns, "0" * 32], include=["TAGS"])
    for task in described["tasks"]:
        found = (task["lastStatus"], task["desiredStatus"], task["containerInstanceArn"], task["startedBy"])
        call.expect("a running task", found, ("RUNNING", "RUNNING", instance, "the-model"))
        call.expect("its tags", task["tags"], asked["tags"])
        call.expect("its container", task["containers"][0]["lastStatus"], "RUNNING")
    call.expect("a missing task", described["failures"][0]["reason"], "MISSING")
    overlooked = ecs_answers.overlooked(call.model, "DescribeTasks", call.answers.last["DescribeTasks"])
    call.expect("spoilt answers that would pass for good ones", overlooked, [])

    for filters, many in [
        ({}, True),
        ({"family": "model"}, True),
        ({"family": "model-two"}, False),
        ({"containerInstance": instance}, True),
        ({"startedBy": "the-model"}, True),
        ({"startedBy": "another"}, False),
        ({"desiredStatus": "RUNNING"}, True),
        ({"launchType": "EC2"}, True),
        ({"launchType": "FARGATE"}, False),
        ({"cluster": "default", "family": "model", "desiredStatus": "RUNNING"}, True),
        ({"cluster": "model"}, False),
    ]:
        call.expect(f"tasks by {filters}", sorted(call.pages("ListTasks", 1, **filters)), sorted(arns) if many else [])
    started = call("StartTask", taskDefinition="model-two", containerInstances=[instance, "0" * 32])
    call.expect("started", (len(started["tasks"]), len(started["failures"])), (1, 1))
    arns.append(started["tasks"][0]["taskArn"])
    call.client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=PATIENTLY)
    ends_of_tasks(call, arns)


def placements(call):
    """Where tasks may be, and why they are nowhere."""
    linux = [{"type": "memberOf", "expression": "attribute:ecs.os-type == linux"}, {"type": "distinctInstance"}]
    strategy = [{"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "binpack", "field": "memory"}]
    asked = {"taskDefinition": "model", "placementConstraints": linux, "placementStrategy": strategy}
    placed = call("RunTask", **asked, propagateTags="TASK_DEFINITION", referenceId="one", group="placed")
    task = placed["tasks"][0]
    call.expect("tags of the definition", task["tags"], [{"key": "team", "value": "one"}])
    call.expect("its group", task["group"], "placed")
    call("StopTask", task=task["taskArn"])
    call.client.get_waiter("tasks_stopped").wait(tasks=[task["taskArn"]], WaiterConfig=PATIENTLY)

    nowhere = [{"type": "memberOf", "expression": "attribute:nowhere exists"}]
    huge = {"containerOverrides": [{"name": "web", "memory": 60_000_000}]}
    for members, reason in [
        ({"placementConstraints": nowhere}, "MemberOf placement constraint unsatisfied."),
        ({"overrides": huge}, "RESOURCE:MEMORY"),
    ]:
        answer = call("RunTask", taskDefinition="model", **members)
        found = answer["tasks"], [failure["reason"] for failure in answer["failures"]]
        call.expect(f"why there is no task with {members}", found, ([], [reason]))
    both = {"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}
    for members in [
        both,
        {"launchType": "FARGATE"},
        {"placementConstraints": [{"type": "memberOf", "expression": "attribute:a =="}]},
        {"placementStrategy": [{"type": "spread", "field": "nothing"}]},
        {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}},
        {"overrides": {"containerOverrides": [{"name": "nobody"}]}},
        {"tags": [{"key": "aws:a", "value": "b"}]},
        {"propagateTags": "SERVICE"},
    ]:
        try:
            call("RunTask", taskDefinition="model", **members)
        except botocore.exceptions.ClientError as error:
            # Which of the two it is differs from rule to rule.
            code = error.response["Error"]["Code"]
            call.expect(f"RunTask({members})", code in ("InvalidParameterException", "ClientException"), True)
        else:
            call.wrong.append(f"RunTask({members}): not refused")


def ends_of_tasks(call, arns):
    session = call("ExecuteCommand", task=arns[0], container="web", command="coracle --version", interactive=True)
    call.expect("a session", sorted(session["session"]), ["sessionId", "streamUrl", "tokenValue"])
    tagged = call("ListTagsForResource", resourceArn=arns[0])["tags"]
    call.expect("a task's tags", tagged, [{"key": "a", "value": "b"}])
    for operation, members in [("UpdateTaskProtection", {"protectionEnabled": True}), ("GetTaskProtection", {})]:
        answer = call(operation, cluster="default", tasks=arns[:1], **members)
        # A task of no service cannot be protected: that is the answer's failure, not the request's.
        found = len(answer["protectedTasks"]), [failure["reason"] for failure in answer["failures"]]
        call.expect(operation, found, (0, ["TASK_NOT_VALID"]))
    name = {"cluster": "default", "task": arns[0]}
    call("SubmitTaskStateChange", **name, status="RUNNING")
    call("SubmitContainerStateChange", **name, containerName="web", status="RUNNING")
    attachments = [{"attachmentArn": arns[0].replace(":task/", ":attachment/"), "status": "ATTACHED"}]
    call.refused("InvalidParameterException", "SubmitAttachmentStateChanges", cluster="default", attachments=attachments)

    for arn in arns:
        stopping = call("StopTask", task=arn, reason="the test is over")["task"]
        call.expect("a task that is to stop", stopping["desiredStatus"], "STOPPED")
    call.client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=PATIENTLY)
    for task in call("DescribeTasks", tasks=arns)["tasks"]:
        found = task["lastStatus"], task["stopCode"], task["stoppedReason"]
        call.expect("a stopped task", found, ("STOPPED", "UserInitiated", "the test is over"))
        call.expect("its exit code is there", "exitCode" in task["containers"][0], True)
        call.expect("its times are there", {"createdAt", "startedAt", "stoppingAt", "stoppedAt"} <= task.keys(), True)
    stopped = call.pages("ListTasks", 2, desiredStatus="STOPPED")
    call.expect("stopped tasks", set(arns) <= set(stopped), True)

    call.refused("InvalidParameterException", "StopTask", task="0" * 32)
    call.refused("InvalidParameterException", "DescribeTasks", tasks=[])
    call.refused("InvalidParameterException", "DescribeTasks", tasks=["0" * 32] * 101)
    call.refused("ClientException", "RunTask", taskDefinition="nowhere")
    call.refused("ClusterNotFoundException", "RunTask", cluster="nowhere", taskDefinition="model")
    call.refused("InvalidParameterException", "RunTask", taskDefinition="model", count=11)
    call.refused("InvalidParameterException", "RunTask", taskDefinition="model", launchType="MOON")
    call.refused("InvalidParameterException", "ExecuteCommand", task=arns[0], command="true", interactive=True)


def regions(call):
    """Names are the same in all regions, and every ARN of an answer is of the region that asked."""
    client = call.connect("ap-moon-1")
    arn = f"arn:aws:ecs:{REGION}:123456789012:cluster/model"
    described = client.describe_clusters(clusters=[arn])["clusters"]
    found = [cluster["clusterArn"] for cluster in described]
    call.expect("a cluster's ARN elsewhere", found, ["arn:aws:ecs:ap-moon-1:123456789012:cluster/model"])


def pages_at_their_limits(call):
    """The smallest and the largest page, what is beyond both, and a page of another list."""
    lists = {
        "ListClusters": ({}, 100),
        "ListContainerInstances": ({}, 100),
        "ListTasks": ({}, 100),
        "ListTaskDefinitions": ({}, 100),
        "ListTaskDefinitionFamilies": ({}, 100),
        "ListAttributes": ({"targetType": "container-instance"}, 100),
        "ListAccountSettings": ({"effectiveSettings": True}, 10),
        "DescribeCapacityProviders": ({}, 10),
    }
    for operation, (members, most) in lists.items():
        first = call(operation, maxResults=1, **members)
        call(operation, maxResults=most, **members)
        for size in [-1, 0, most + 1]:
            call.refused("InvalidParameterException", operation, maxResults=size, **members)
        for token in ["", "x", "A" * 3000]:
            call.refused("InvalidParameterException", operation, nextToken=token, **members)
        other = "ListClusters" if operation != "ListClusters" else "ListTaskDefinitions"
        if "nextToken" in first:
            call.refused("InvalidParameterException", other, nextToken=first["nextToken"])
    token = call("ListTaskDefinitions", maxResults=1)["nextToken"]
    # A list goes on with the same question only, whatever the size of its pages.
    call.refused("InvalidParameterException", "ListTaskDefinitions", nextToken=token, familyPrefix="model")
    call("ListTaskDefinitions", nextToken=token, maxResults=100)


def example_from_its_registration_to_its_end(call):
    """What the README has people do, with boto3 and the plug-in for sessions."""
    with open(EXAMPLE) as file:
        example = json.load(file)
    # Any port that is free here.
    example["containerDefinitions"][0]["portMappings"][0]["hostPort"] = 0
    made = call("RegisterTaskDefinition", **example)["taskDefinition"]
    run = call("RunTask", taskDefinition=made["taskDefinitionArn"], enableExecuteCommand=True)
    arns = [run["tasks"][0]["taskArn"]]
    first = run["tasks"][0]["containers"][0]["containerArn"]
    call.client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=PATIENTLY)
    container = call("DescribeTasks", tasks=arns)["tasks"][0]["containers"][0]
    call.expect("a container's ARN while it runs", container["containerArn"], first)
    asked = {"task": arns[0], "container": container["name"], "command": "/coracle --version", "interactive": True}
    session = Session(call("ExecuteCommand", **asked)["session"])
    session.run()
    call.expect("what exec printed", b"coracle" in session.said, True)
    call("StopTask", task=arns[0])
    call.client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=PATIENTLY)


class Session(session_manager_plugin.Session):
    """Keeps what a person would see."""

    def __init__(self, session):
        super().__init__({name[0].upper() + name[1:]: value for name, value in session.items()})
        self.said = b""

    def take(self, payload_type, payload):
        if payload_type == session_manager_plugin.OUTPUT:
            self.said += payload
        else:
            super().take(payload_type, payload)


def not_built(call):
    """Every operation that has not been called yet says that it is not here."""
    called = call.answers.good.keys() | call.answers.refused.keys()
    left = [name for name in call.model.operation_names if name not in called]
    for name in left:
        members = ecs_answers.example(call.model.operation_model(name).input_shape)
        message = call.refused("UnsupportedFeatureException", name, **members)
        if name not in message:
            call.wrong.append(f"{name}: its refusal does not name it: {message}")
    call.expect("operations that are not built", len(left), NOT_BUILT)


def main():
    with serving.serving(sys.argv[1]) as endpoint:
        call = Calls(endpoint)
        parts = [clusters, capacity_providers, account_settings, task_definitions, tags, instances, placements, tasks, regions]
        parts += [pages_at_their_limits, example_from_its_registration_to_its_end, not_built]
        for part in parts:
            try:
                part(call)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, LookupError) as error:
                call.wrong.append(f"{part.__name__} ended with {type(error).__name__}: {error}")
    for line in call.wrong:
        print(line)
    good, refused = sum(call.answers.good.values()), len(call.answers.refused)
    print(f"{len(call.answers.good)} operations answered {good} times, {refused} refused, {len(call.wrong)} wrong")
    sys.exit(bool(call.wrong))


if __name__ == "__main__":
    main()
