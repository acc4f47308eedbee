"""What may spoil a search, looked for before it: in the data, the metric, the model and the prompt."""
