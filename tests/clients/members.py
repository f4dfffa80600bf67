#!/usr/bin/env python3
"""Compares `coracle lint --members --output json` with the service model in PyPI's botocore.

Every structure, member, type, list of values and required member below RegisterTaskDefinition's input and RunTask's
overrides: none missing, none too many. The Python that runs this has botocore; `tests/clients/run` sees to it.

    members.py CORACLE
"""

import json
import subprocess
import sys

import botocore
import botocore.session

# What the model leaves optional and the service does not: its ClientExceptions name them, or nothing could come of the
# structure without them.
REQUIRED_BY_THE_SERVICE = {
    "ContainerDefinition.name",
    "ContainerDefinition.image",
    "ContainerOverride.name",
    "KeyValuePair.name",
    "MountPoint.containerPath",
    "MountPoint.sourceVolume",
    "SystemControl.namespace",
    "SystemControl.value",
    "Tag.key",
    "Volume.name",
    "VolumeFrom.sourceContainer",
}

# The table has one structure for the input and for the answer; the model has two.
INPUT, ANSWER = "RegisterTaskDefinitionRequest", "TaskDefinition"


def type_name(shape):
    if shape.type_name == "list":
        return f"list<{type_name(shape.member)}>"
    if shape.type_name == "map":
        return f"map<{type_name(shape.value)}>"
    return shape.name if shape.type_name == "structure" else shape.type_name


def values(shape):
    return sorted(values(shape.member) if shape.type_name == "list" else getattr(shape, "enum", None) or [])


def inner(shape):
    while shape.type_name in ("list", "map"):
        shape = shape.member if shape.type_name == "list" else shape.value
    return shape


def members(model, root, found):
    """Adds `Structure.member` to (type, required, values) for all that is below the structure."""
    shape = model.shape_for(root)
    name = ANSWER if root == INPUT else root
    for member, kind in shape.members.items():
        key = f"{name}.{member}"
        if key in found:
            continue
        found[key] = (type_name(kind), member in shape.required_members, values(kind))
        if inner(kind).type_name == "structure":
            members(model, inner(kind).name, found)


def compare(table, model):
    wrong = []
    theirs = {}
    members(model, INPUT, theirs)
    members(model, "TaskOverride", theirs)
    answers = {}
    members(model, ANSWER, answers)
    ours = {f"{shape}.{member}": row for shape, rows in table.items() for member, row in rows.items()}
    read_only = {key for key, row in ours.items() if row["here"] == "readOnly"}
    wrong += [f"{key}: in the model, not in the table" for key in sorted(theirs.keys() - ours.keys())]
    wrong += [f"{key}: in the table, not in the model" for key in sorted(ours.keys() - read_only - theirs.keys())]
    only_in_answers = {key for key in answers.keys() - theirs.keys()}
    wrong += [f"{key}: in answers, not in the table" for key in sorted(only_in_answers - ours.keys())]
    wrong += [f"{key}: read-only in the table, not only in answers" for key in sorted(read_only - only_in_answers)]
    for key in sorted(ours.keys() & theirs.keys()):
        kind, required, enum = theirs[key]
        row = ours[key]
        if row["type"] != kind:
            wrong.append(f"{key}: {row['type']} in the table, {kind} in the model")
        if row["required"] != (required or key in REQUIRED_BY_THE_SERVICE):
            wrong.append(f"{key}: required in one of table and model")
        if sorted(row["values"]) != enum:
            wrong.append(f"{key}: {sorted(row['values'])} in the table, {enum} in the model")
    return len(theirs), wrong


def main():
    printed = subprocess.run([sys.argv[1], "lint", "--members", "--output", "json"], check=True, capture_output=True)
    model = botocore.session.get_session().get_service_model("ecs")
    count, wrong = compare(json.loads(printed.stdout), model)
    for line in wrong:
        print(line)
    print(f"{count} members of botocore {botocore.__version__}, {len(wrong)} differences")
    # Both sides have something to say, or the comparison is none.
    sys.exit(bool(wrong) or count < 180)


if __name__ == "__main__":
    main()
