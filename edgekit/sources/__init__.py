"""Sources: where a model comes from, one file each; a recipe names one by its first key."""
