"""People, tenants and what ties them together.

base.py       the abstract base of every tenant-owned table
directory.py  people and tenants, which belong to no tenant
settings.py   what a tenant has chosen for itself
people.py     memberships, roles, groups, invitations
keys.py       service accounts, API keys, wrapped encryption keys
"""

from tenants.models.base import CurrentTenant, TenantManager, TenantModel, TenantOwned
from tenants.models.directory import Tenant, User, UserManager
from tenants.models.keys import ApiKey, DataKey, DestroyedKey, ServiceAccount, TenantKey
from tenants.models.people import CustomRole, Group, GroupMember, Invitation, Membership
from tenants.models.settings import TenantSettings

__all__ = [
    "ApiKey",
    "CurrentTenant",
    "CustomRole",
    "DataKey",
    "DestroyedKey",
    "Group",
    "GroupMember",
    "Invitation",
    "Membership",
    "ServiceAccount",
    "Tenant",
    "TenantKey",
    "TenantManager",
    "TenantModel",
    "TenantOwned",
    "TenantSettings",
    "User",
    "UserManager",
]
