"""Emulating a board by qemu: its processor, its system, and a counter of executed instructions."""
