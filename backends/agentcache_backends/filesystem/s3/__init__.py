"""Objects in an S3 bucket: one object a value, one request a write, conditions where the store has them.

`bucket` says what names, headers and conditions mean; `through_obstore` and `through_s3fs` send the requests;
`connection` chooses between them in each process; `faces` are the verbs of the seam.
"""

from __future__ import annotations

from agentcache_backends.filesystem.s3.faces import S3Backend, on_event_loops
from agentcache_backends.filesystem.s3.settings import S3Settings, settings_of

__all__ = ["S3Backend", "S3Settings", "on_event_loops", "settings_of"]
