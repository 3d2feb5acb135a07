"""Runners: how a device is reached. One file each; the file's name is the scheme of its URI."""
