"""The table of saved searches."""

from django.db import models

from tenants import clock
from tenants.models import TenantModel


class SavedSearch(TenantModel):
    """What somebody searches for again and again. What they look for is content, and so is the name they gave it.

    sealed: ciphertext of JSON {"name", "asked"}, under the key of `day`.
    shared: with everybody who may search; else it is the owner's alone.
    flags: new hits are flagged for review; looked_until: how far has been looked.
    removed: since when it is deleted and can still be brought back.
    """

    owner_id = models.UUIDField(editable=False)
    owner_label = models.TextField(editable=False)
    day = models.DateField()
    sealed = models.BinaryField()
    shared = models.BooleanField(default=False)
    flags = models.BooleanField(default=False)
    looked_until = models.DateTimeField(null=True)
    created = models.DateTimeField(default=clock.now, editable=False)
    removed = models.DateTimeField(null=True)

    class Meta:
        db_table = "audit_saved_search"
        indexes = [models.Index(fields=["tenant", "owner_id"], name="saved_searches_of_an_owner")]

    def __str__(self) -> str:
        return str(self.pk)
