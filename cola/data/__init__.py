"""From the sentences in data/raw to tables of token ids. No torch and no model."""
