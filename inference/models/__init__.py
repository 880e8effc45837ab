"""From a model's name to a model in memory: find, convert once, verify, load.

`source` reads what the operator asked for, `folder` makes a verified folder of safetensors out of
it, `load` brings that folder into torch, `template` turns a conversation into token ids.
Weights are read from safetensors or GGUF only and no code from a model folder ever runs.
Imports torch and transformers lazily (they take seconds); imports no Django.
"""
