"""The base of all rooms: errors, settings, paths, files, progress. No torch."""
