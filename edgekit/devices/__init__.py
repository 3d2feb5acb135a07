"""Running models on devices: this computer, an emulated board; more runners are one file each."""
