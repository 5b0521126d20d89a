"""Checks a CycloneDX document against the published schema, and that its graph names only what it lists.

    sbom.py FILE
"""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = pathlib.Path(sys.argv[1]).read_text()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
assert error is None, error
# a validator that accepts everything proves nothing
broken = json.loads(text) | {"bomFormat": "Other"}
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None

document = json.loads(text)
references = [component["bom-ref"] for component in document["components"]]
references.append(document["metadata"]["component"]["bom-ref"])
assert len(references) == len(set(references)), "a reference stands twice"
for edge in document["dependencies"]:
    unknown = {edge["ref"], *edge["dependsOn"]} - set(references)
    assert not unknown, unknown
reached, waiting = set(), [document["metadata"]["component"]["bom-ref"]]
below = {edge["ref"]: edge["dependsOn"] for edge in document["dependencies"]}
while waiting:
    reference = waiting.pop()
    if reference not in reached:
        reached.add(reference)
        waiting.extend(below.get(reference, []))
orphans = {reference for reference in references if reference.startswith("pkg:")} - reached
assert not orphans, f"nobody depends on {orphans}"
for component in document["components"]:
    foreign = component.get("purl", "").startswith("pkg:cargo/") and not component["name"].startswith("kh-")
    assert component.get("licenses"), component["name"]
    assert component.get("hashes") or not foreign, f"{component['name']} has no checksum"
