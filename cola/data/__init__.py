"""From sources to tables of tokenized sentences. Without torch and without a model."""
