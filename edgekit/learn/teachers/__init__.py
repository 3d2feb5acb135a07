"""Teachers: where the answers come from that a student is compared with."""
