"""Everything that fills data/raw and models/pretrained. Only the stage fetch depends on it."""
