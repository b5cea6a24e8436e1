"""Schema migrations: one folder, and one line of revisions, per area; so areas never conflict over a head."""
