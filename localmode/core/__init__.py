"""What every part of localmode builds on."""
