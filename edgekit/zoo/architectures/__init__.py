"""Architectures a recipe can name: one file each, options first, torch only inside `build`."""
