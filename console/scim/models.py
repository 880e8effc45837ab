"""What a tenant's directory says of a person."""

from django.db import models

from tenants import clock
from tenants.models import Membership, TenantModel


class DirectoryEntry(TenantModel):
    """The directory's words for a member, whatever the person calls themselves."""

    membership = models.OneToOneField(Membership, on_delete=models.CASCADE, related_name="directory_entry")
    formatted = models.CharField(max_length=120, blank=True)
    family_name = models.CharField(max_length=120, blank=True)
    given_name = models.CharField(max_length=120, blank=True)
    display_name = models.CharField(max_length=120, blank=True)
    nick_name = models.CharField(max_length=120, blank=True)
    title = models.CharField(max_length=120, blank=True)
    user_type = models.CharField(max_length=120, blank=True)
    changed = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.display_name or self.formatted
