"""Model sources: where a recipe's model comes from; one file each."""
