"""Recorded answers as a folder of files that people can read, review and commit."""

from agentcache_adapters.recordings.folder import Recorded, RecordingFolder
from agentcache_adapters.recordings.redaction import Redaction

__all__ = ["Recorded", "RecordingFolder", "Redaction"]
