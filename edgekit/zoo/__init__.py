"""Zoo: small reference networks, and torch models as files."""
