"""Documents of an archive: certified copies, certificates of recorded facts, no-record notes; set, sealed and kept."""
