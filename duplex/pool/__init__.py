"""Steps of all sessions on their way to the models: earliest deadline first, batched, on worker threads."""
