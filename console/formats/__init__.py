"""How numbers are written in languages where Django's way is not ours (settings.FORMAT_MODULE_PATH)."""
