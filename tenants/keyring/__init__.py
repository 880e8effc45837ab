"""The keys of tenants' content: a key provider's master key → a tenant's key → a data key a purpose and UTC day.

Content is sealed through `tenants.envelope`, the door to all this. May import tenants' models, scope and clock.

    errors.py       what goes wrong, and what it means
    ciphers.py      AES-256-GCM and the derivation of keys
    shards.py       the part of a data key that no database backup holds
    tenant_keys.py  tenants' keys as the key provider unwraps them
    data_keys.py    data keys: made, found, remembered for a minute, destroyed
    providers/      where master keys live: a local file, AWS KMS, Vault transit
    rotation.py     keys wrapped anew while everything is in use
    retirement.py   what rotations left behind, removed by the database's owner
    inspection.py   which keys there are, and whether they open
"""
