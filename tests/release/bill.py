"""The bill of materials of a release, in CycloneDX 1.5. Pure.

Source: cyclonedx.org/docs/1.5/json, packageurl.org.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

PROGRAMS = {"lvm2": "2.03", "dmsetup": ""}
"""Debian packages without which the program does nothing, and the least version."""
NAMESPACE = uuid.UUID("5e1a3c54-6a3b-5c1e-9d0f-6b8a4a8f2d11")


def bill(project: Mapping[str, Any], hashes: Mapping[str, str], epoch: int) -> dict[str, Any]:
    """Return the bill of pyproject.toml's `project`, for files with these SHA-256 `hashes`, made at `epoch` (seconds).

    The same input has the same serial number.
    """
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    parts = list(_parts(project))
    needed = [part["bom-ref"] for part in parts if part["scope"] == "required"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, ' '.join([own, *sorted(hashes.values())]))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat(),
            "component": {
                "bom-ref": own,
                "type": "application",
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": own,
                "externalReferences": [
                    {"type": "distribution", "url": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
                    for name, digest in sorted(hashes.items())
                ],
            },
        },
        "components": parts,
        "dependencies": [{"ref": own, "dependsOn": needed}, *({"ref": part["bom-ref"]} for part in parts)],
    }


def _parts(project: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for wanted in project["dependencies"]:
        yield _library(wanted, "required")
    for extra in ("borg", "mysql", "postgresql"):
        for wanted in project["optional-dependencies"][extra]:
            yield _library(wanted, "optional")
    for name, least in PROGRAMS.items():
        yield _part("application", f"pkg:deb/debian/{name}", name, f"{name} >= {least}" if least else name, "required")


def _library(wanted: str, scope: str) -> dict[str, Any]:
    match = re.match(r"[\w.-]+", wanted)
    assert match, wanted
    return _part("library", f"pkg:pypi/{match[0].lower()}", match[0], wanted, scope)


def _part(kind: str, url: str, name: str, wanted: str, scope: str) -> dict[str, Any]:
    """Return a component. Which release of it is used is chosen where it is installed, so only the range is known."""
    asked = [{"name": "borg-lvm:requirement", "value": wanted}]
    return {"bom-ref": url, "type": kind, "name": name, "purl": url, "scope": scope, "properties": asked}
