"""What all rooms stand on: the nouns, errors, files and records, the protocol of what writes text."""
