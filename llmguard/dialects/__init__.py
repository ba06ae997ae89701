"""Wire formats: how requests, responses and streams of each provider say their texts; one file each."""
