"""The engine: many token streams out of one model, in one thread that steps torch.

`request` holds what comes in and `stream` what goes out; `scheduler` decides, `runner` computes,
`batch` owns the keys and values, `sampler` picks tokens, `text` turns them into characters, and
`engine` ties them together. Knows nothing of HTTP, tenants or Django. `errors`, `request` and
`stream` import no torch, so that a server can answer before torch is loaded.
"""
