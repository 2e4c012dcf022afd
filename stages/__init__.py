"""The pipeline's stages, a module each: `python -m stages.fetch`. Importing one does nothing."""
