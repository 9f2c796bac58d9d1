"""The files of the hidden directory that tell what the catalog says of a version, as it is now."""

from __future__ import annotations

import orjson

from ...records import Membership


def artifact_json(member: Membership) -> bytes:
    """`artifact.json`: all but the manifest, as one JSON object."""
    version = member.version
    value = {
        "name": member.name,
        "qualified_name": member.qualified_name,
        "version": f"v{member.number}",
        "source": version.qualified_name,
        "type": version.collection.type,
        "aliases": list(member.aliases),
        "tags": list(version.tags),
        "digest": version.digest,
        "digest_algorithm": version.digest_algorithm,
        "size": version.size,
        "file_count": version.file_count,
        "created_at": version.created_at,
        "description": version.description,
        "metadata": dict(version.metadata),
        "run": version.run_id,
    }
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE, default=str)


def readme(member: Membership) -> bytes:
    """`README.md`: the description, with a line break at its end."""
    text = member.version.description or ""
    return (text if not text or text.endswith("\n") else text + "\n").encode("utf-8", "replace")
