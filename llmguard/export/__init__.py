"""Models of others in, model directories out. Needs PyTorch; nothing that runs a model imports this."""
