"""What every room stands on: errors, settings, paths, files, progress. Without torch."""
